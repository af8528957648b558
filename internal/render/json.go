package render

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxJSONDepth bounds nesting in both directions, as serde_json does.
const maxJSONDepth = 128

// ParseJSON reads one JSON value. Objects keep the order of their keys, of a
// repeated key the last value counts; integers that fit 64 bits stay integers,
// all other numbers are float64. Nesting is bounded by 128. What cannot be read is an
// [Error] with the place, in a file called JSON.
func ParseJSON(data []byte) (any, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // which some editors put there
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := decode(d, 0)
	if err != nil {
		return nil, jsonError(data, d.InputOffset(), err.Error())
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, jsonError(data, d.InputOffset(), "more text after the value")
	}
	return v, nil
}

func jsonError(data []byte, offset int64, message string) error {
	line, column, text := Position(string(data), int(offset))
	return &Error{File: "JSON", Line: line, Column: column, Source: text, Message: message}
}

// ParseJSONObject is [ParseJSON] for a text that has to be an object.
func ParseJSONObject(data []byte) (*Map, error) {
	m := NewMap()
	return m, m.UnmarshalJSON(data)
}

func decode(d *json.Decoder, depth int) (any, error) {
	if depth > maxJSONDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxJSONDepth)
	}
	t, err := d.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			return decodeObject(d, depth)
		}
		return decodeArray(d, depth)
	case json.Number:
		return parseNumber(string(t))
	default:
		return t, nil // nil, bool, string
	}
}

func decodeObject(d *json.Decoder, depth int) (any, error) {
	m := NewMap()
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		v, err := decode(d, depth+1)
		if err != nil {
			return nil, err
		}
		m.Set(t.(string), v) // the decoder allows nothing else here
	}
	_, err := d.Token()
	return m, err
}

func decodeArray(d *json.Decoder, depth int) (any, error) {
	list := []any{}
	for d.More() {
		v, err := decode(d, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

func parseNumber(s string) (any, error) {
	if !strings.ContainsAny(s, ".eE") && s != "-0" {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i, nil
		}
		if u, err := strconv.ParseUint(s, 10, 64); err == nil {
			return u, nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, fmt.Errorf("number %s is out of range", s)
	}
	return f, nil
}

// JSONOptions say how [AppendJSON] writes.
type JSONOptions struct {
	Order MapOrder
	// Pretty indents by two spaces.
	Pretty bool
	// MaxBytes bounds the length of the text; 0 means no bound. A value that
	// shares parts may be far larger as text than in memory.
	MaxBytes int
}

// ErrTooLarge is the error of a JSON text longer than [JSONOptions.MaxBytes].
var ErrTooLarge = errors.New("the JSON text is larger than allowed")

// AppendJSON appends v as JSON to dst, byte for byte as serde_json writes it:
// nothing but quotes, backslashes and control characters is escaped, a whole
// float64 keeps its ".0".
func AppendJSON(dst []byte, v any, o JSONOptions) ([]byte, error) {
	w := jsonWriter{JSONOptions: o, out: dst, start: len(dst)}
	if err := w.value(v, 0); err != nil {
		return dst, err
	}
	return w.out, nil
}

type jsonWriter struct {
	JSONOptions
	out   []byte
	start int
}

func (w *jsonWriter) value(v any, depth int) error {
	if depth > maxJSONDepth {
		return fmt.Errorf("the value is nested deeper than %d", maxJSONDepth)
	}
	if w.MaxBytes > 0 && len(w.out)-w.start > w.MaxBytes {
		return ErrTooLarge
	}
	switch v := v.(type) {
	case nil:
		w.out = append(w.out, "null"...)
	case bool:
		w.out = strconv.AppendBool(w.out, v)
	case int64:
		w.out = strconv.AppendInt(w.out, v, 10)
	case uint64:
		w.out = strconv.AppendUint(w.out, v, 10)
	case float64:
		w.out = AppendFloat(w.out, v)
	case string:
		w.out = appendString(w.out, v)
	case []any:
		return w.array(v, depth)
	case *Map:
		return w.object(v, depth)
	default:
		return fmt.Errorf("%s is not a template value", KindOf(v))
	}
	return nil
}

func (w *jsonWriter) array(list []any, depth int) error {
	w.out = append(w.out, '[')
	for i, v := range list {
		w.separate(i, depth+1)
		if err := w.value(v, depth+1); err != nil {
			return err
		}
	}
	w.end(len(list), depth)
	w.out = append(w.out, ']')
	return nil
}

func (w *jsonWriter) object(m *Map, depth int) error {
	m = m.Ordered(w.Order)
	w.out = append(w.out, '{')
	for i := range m.Len() {
		k, v := m.At(i)
		w.separate(i, depth+1)
		w.out = append(appendString(w.out, k), ':')
		if w.Pretty {
			w.out = append(w.out, ' ')
		}
		if err := w.value(v, depth+1); err != nil {
			return err
		}
	}
	w.end(m.Len(), depth)
	w.out = append(w.out, '}')
	return nil
}

func (w *jsonWriter) separate(i, depth int) {
	if i > 0 {
		w.out = append(w.out, ',')
	}
	w.newline(depth)
}

func (w *jsonWriter) end(n, depth int) {
	if n > 0 {
		w.newline(depth)
	}
}

func (w *jsonWriter) newline(depth int) {
	if !w.Pretty {
		return
	}
	w.out = append(w.out, '\n')
	for range depth {
		w.out = append(w.out, ' ', ' ')
	}
}

// sorted returns a map with the keys in sorted order, m itself if they are.
func (m *Map) sorted() *Map {
	if slices.IsSorted(m.keys) {
		return m
	}
	keys := m.Keys(SortedOrder)
	vals := make([]any, len(keys))
	for i, k := range keys {
		vals[i] = m.vals[m.find(k)]
	}
	return &Map{keys: keys, vals: vals, row: m.row}
}

// Ordered returns a map that is visited in the given order by [Map.At].
func (m *Map) Ordered(order MapOrder) *Map {
	if m != nil && order == SortedOrder {
		return m.sorted()
	}
	return m
}

// AppendFloat appends f as serde_json writes it: the shortest digits that read
// back as f, with ".0" if whole, as 1e16 and 1e-6 outside of 1e-5 … 1e16.
// Infinities and NaN are null.
func AppendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	abs := math.Abs(f)
	if abs != 0 && (abs < 1e-5 || abs >= 1e16) {
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
		// Go writes at least two exponent digits and a plus sign.
		e := bytes.LastIndexByte(dst[start:], 'e') + start
		exponent := string(dst[e+1:])
		dst = dst[:e+1]
		if strings.HasPrefix(exponent, "-") {
			dst = append(dst, '-')
		}
		return append(dst, strings.TrimLeft(exponent, "+-0")...)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
	if bytes.IndexByte(dst[start:], '.') < 0 {
		dst = append(dst, '.', '0')
	}
	return dst
}

const hex = "0123456789abcdef"

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	plain := 0 // start of what was not written yet
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[plain:i]...)
		plain = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	rest := s[plain:]
	if !utf8.ValidString(rest) {
		rest = strings.ToValidUTF8(rest, "\uFFFD")
	}
	return append(append(dst, rest...), '"')
}
