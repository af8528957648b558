package tera

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// filterFunc changes a value. It gives its errors no place and no name.
type filterFunc func(r *run, v any, a args) (any, error)

// filters are all filters but default and safe, which eval knows itself.
var filters map[string]filterFunc

// plainFilters are the filters of Tera that the dialect shadows.
var plainFilters = map[string]filterFunc{
	"title":     onText(titleWords),
	"pluralize": pluralSuffix,
	"upper":     onText(toUpper),
	"lower":     onText(toLower),
}

func init() { // not a literal: the table is looked at by functions that it holds
	filters = map[string]filterFunc{
		// Text.
		"trim":               onText(strings.TrimSpace),
		"trim_start":         onText(func(s string) string { return strings.TrimLeftFunc(s, isSpace) }),
		"trim_end":           onText(func(s string) string { return strings.TrimRightFunc(s, isSpace) }),
		"trim_start_matches": trimMatches(strings.CutPrefix),
		"trim_end_matches":   trimMatches(strings.CutSuffix),
		"truncate":           truncate,
		"wordcount":          wordCount,
		"replace":            replace,
		"capitalize":         onText(capitalize),
		"urlencode":          onText(func(s string) string { return percentEncode(s, urlKept) }),
		"urlencode_strict":   onText(func(s string) string { return percentEncode(s, "") }),
		"addslashes":         onText(addSlashes.Replace),
		"slugify":            onText(slugify),
		"linebreaksbr":       onText(lineBreaks.Replace),
		"indent":             indent,
		"striptags":          onText(stripTags),
		"spaceless":          onText(spaceless),
		"escape":             onText(escapeHTML.Replace),
		"escape_xml":         onText(escapeXML.Replace),
		"split":              split,
		"int":                toInt,
		"float":              toFloatFilter,
		// Numbers.
		"abs":            abs,
		"round":          round,
		"filesizeformat": fileSize,
		// Arrays and maps.
		"nth":      nth,
		"first":    first,
		"last":     last,
		"join":     join,
		"sort":     sortArray,
		"unique":   unique,
		"group_by": groupBy,
		"filter":   filterArray,
		"map":      mapArray,
		"slice":    slice,
		"concat":   concatArray,
		"get":      get,
		// Anything.
		"length":      length,
		"reverse":     reverse,
		"json_encode": jsonEncode,
		"date":        date,
		"as_str":      asStr,
	}
	addWordFilters(filters)
}

// maxGrowth is how many times its length a filter makes a string at most.
const maxGrowth = 6

func onText(f func(string) string) filterFunc {
	return func(r *run, v any, _ args) (any, error) {
		s, err := text(v)
		if err != nil {
			return nil, err
		}
		if err := r.afford(maxGrowth * len(s)); err != nil {
			return nil, err
		}
		return f(s), r.step(1 + len(s)/64)
	}
}

func text(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	err := fmt.Errorf("a string is needed, this is %s", render.KindOf(v))
	switch v.(type) {
	case bool, int64, uint64, float64:
		return "", &hinted{err, "put `| as_str` before it"}
	}
	return "", err
}

func array(v any) ([]any, error) {
	if list, ok := v.([]any); ok {
		return list, nil
	}
	return nil, fmt.Errorf("an array is needed, this is %s", render.KindOf(v))
}

// str returns a string argument, or fallback if there is none.
func (a args) str(name, fallback string) (string, error) {
	v, ok := a.get(name)
	if !ok {
		return fallback, nil
	}
	s, ok := v.(string)
	if !ok {
		return "", a.wrong(name, "a string", v)
	}
	return s, nil
}

// needStr returns a string argument that has to be there.
func (a args) needStr(name string) (string, error) {
	if _, ok := a.get(name); !ok {
		return "", fmt.Errorf("the argument %q is missing", name)
	}
	return a.str(name, "")
}

func (a args) boolean(name string, fallback bool) (bool, error) {
	v, ok := a.get(name)
	if !ok {
		return fallback, nil
	}
	b, ok := v.(bool)
	if !ok {
		return false, a.wrong(name, "a bool", v)
	}
	return b, nil
}

func (a args) integer(name string, fallback int64) (int64, error) {
	v, ok := a.get(name)
	if !ok {
		return fallback, nil
	}
	i, ok := v.(int64)
	if !ok {
		return 0, a.wrong(name, "an integer", v)
	}
	return i, nil
}

// count returns an argument that is an integer and not negative.
func (a args) count(name string, fallback int) (int, error) {
	if v, ok := a.get(name); ok {
		if _, large := v.(uint64); large { // more than there is of anything
			return math.MaxInt, nil
		}
	}
	i, err := a.integer(name, int64(fallback))
	if err == nil && i < 0 {
		err = fmt.Errorf("the argument %q cannot be negative", name)
	}
	return int(i), err
}

func (a args) float(name string, fallback float64) (float64, error) {
	v, ok := a.get(name)
	if !ok {
		return fallback, nil
	}
	f, ok := toFloat(v)
	if !ok {
		return 0, a.wrong(name, "a number", v)
	}
	return f, nil
}

func (a args) wrong(name, want string, v any) error {
	return fmt.Errorf("the argument %q is %s, not %s", name, render.KindOf(v), want)
}

// unescape reads \n and \t, which stay two characters in a string of Tera.
var unescape = strings.NewReplacer(`\n`, "\n", `\t`, "\t")

func trimMatches(cut func(s, part string) (string, bool)) filterFunc {
	return func(r *run, v any, a args) (any, error) {
		s, err := text(v)
		if err != nil {
			return nil, err
		}
		pat, err := a.needStr("pat")
		if err != nil {
			return nil, err
		}
		pat = unescape.Replace(pat)
		for found := pat != ""; found; {
			s, found = cut(s, pat)
		}
		return s, nil
	}
}

func truncate(r *run, v any, a args) (any, error) {
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	n, err := a.count("length", 255)
	if err != nil {
		return nil, err
	}
	end, err := a.str("end", "…")
	if err != nil {
		return nil, err
	}
	at := 0
	for ; n > 0 && at < len(s); n-- {
		at += graphemeLen(s[at:])
	}
	if at >= len(s) {
		return s, r.step(len(s) / 16)
	}
	return s[:at] + end, r.step(at / 16)
}

func wordCount(r *run, v any, _ args) (any, error) {
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	n, inWord := int64(0), false
	for _, c := range s {
		if space := isSpace(c); space || !inWord {
			inWord = !space
			if inWord {
				n++
			}
		}
	}
	return n, r.step(1 + len(s)/64)
}

func replace(r *run, v any, a args) (any, error) {
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	from, err := a.needStr("from")
	if err != nil {
		return nil, err
	}
	to, err := a.needStr("to")
	if err != nil {
		return nil, err
	}
	n := strings.Count(s, from)
	if n == 0 {
		return s, r.step(1 + len(s)/256)
	}
	// The room is known before it is taken.
	if err := r.afford(len(s) + n*max(0, len(to)-len(from))); err != nil {
		return nil, err
	}
	return strings.ReplaceAll(s, from, to), nil
}

// afford fails if n bytes cannot be created any more; it takes none.
func (r *run) afford(n int) error {
	if int64(n) > r.created {
		return limitError("strings and arrays of more than %d bytes in all", r.engine.limits.StringBytes)
	}
	return nil
}

func indent(r *run, v any, a args) (any, error) {
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	prefix, err := a.str("prefix", "    ")
	if err != nil {
		return nil, err
	}
	first, err := a.boolean("first", false)
	if err != nil {
		return nil, err
	}
	blank, err := a.boolean("blank", false)
	if err != nil {
		return nil, err
	}
	if err := r.afford(len(s) + len(prefix)*(1+strings.Count(s, "\n"))); err != nil {
		return nil, err
	}
	var b strings.Builder
	for i, line := range lines(s) {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == 0 && first || i > 0 && (blank || strings.TrimLeftFunc(line, isSpace) != "") {
			b.WriteString(prefix)
		}
		b.WriteString(line)
	}
	return b.String(), nil
}

// lines splits as Rust does: no line behind a last newline, no carriage return
// before a newline.
func lines(s string) []string {
	if s == "" {
		return nil
	}
	list := strings.Split(s, "\n")
	for i := range list[:len(list)-1] {
		list[i] = strings.TrimSuffix(list[i], "\r")
	}
	if list[len(list)-1] == "" {
		list = list[:len(list)-1]
	}
	return list
}

func split(r *run, v any, a args) (any, error) {
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	pat, err := a.needStr("pat")
	if err != nil {
		return nil, err
	}
	pat = unescape.Replace(pat)
	if err := r.afford(32 * (2 + strings.Count(s, pat))); err != nil {
		return nil, err
	}
	parts := strings.Split(s, pat)
	if pat == "" { // in Rust there is nothing before the first and behind the last character
		parts = append(append([]string{""}, parts...), "")
	}
	list := make([]any, len(parts))
	for i, part := range parts {
		list[i] = part
	}
	return list, nil
}

func toInt(_ *run, v any, a args) (any, error) {
	fallback, err := a.integer("default", 0)
	if err != nil {
		return nil, err
	}
	base, err := a.integer("base", 10)
	if err != nil {
		return nil, err
	}
	if base < 0 || base > math.MaxUint32 {
		return nil, fmt.Errorf("the argument %q does not fit 32 bits", "base")
	}
	s, ok := v.(string)
	if !ok {
		f, ok := toFloat(v)
		if !ok {
			return nil, fmt.Errorf("a string or a number is needed, this is %s", render.KindOf(v))
		}
		return saturate(f), nil
	}
	if base < 2 || base > 36 {
		return nil, fmt.Errorf("the argument %q is %d, not between 2 and 36", "base", base)
	}
	s = strings.TrimSpace(s)
	if prefix := map[int64]string{2: "0b", 8: "0o", 16: "0x"}[base]; prefix != "" {
		for strings.HasPrefix(s, prefix) {
			s = s[2:]
		}
	}
	if i, err := strconv.ParseInt(s, int(base), 64); err == nil {
		return i, nil
	}
	if f, ok := parseFloat(s); ok && strings.Contains(s, ".") {
		return saturate(f), nil
	}
	return fallback, nil
}

// saturate converts as Rust does: toward zero, to the nearest integer that
// exists, NaN to zero.
func saturate(f float64) int64 {
	switch {
	case math.IsNaN(f):
		return 0
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

// parseFloat reads what Rust's parser reads: no hexadecimal, no underscores.
func parseFloat(s string) (float64, bool) {
	if strings.ContainsAny(s, "xXpP_") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || errors.Is(err, strconv.ErrRange)
}

func toFloatFilter(_ *run, v any, a args) (any, error) {
	f, err := a.float("default", 0)
	if err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		if parsed, ok := parseFloat(strings.TrimSpace(s)); ok {
			f = parsed
		}
	} else if n, ok := toFloat(v); ok {
		f = n
	} else {
		return nil, fmt.Errorf("a string or a number is needed, this is %s", render.KindOf(v))
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, nil
	}
	return f, nil
}

func abs(_ *run, v any, _ args) (any, error) {
	switch n := v.(type) {
	case int64:
		if n == math.MinInt64 {
			return nil, errors.New("the result does not fit 64 bits")
		}
		return max(n, -n), nil
	case uint64:
		return n, nil
	case float64:
		return math.Abs(n), nil
	}
	return nil, fmt.Errorf("a number is needed, this is %s", render.KindOf(v))
}

// pluralSuffix is Tera's own pluralize: a suffix for a number that is not one.
func pluralSuffix(_ *run, v any, a args) (any, error) {
	n, ok := toFloat(v)
	if !ok {
		return nil, fmt.Errorf("a number is needed, this is %s", render.KindOf(v))
	}
	plural, err := a.str("plural", "s")
	if err != nil {
		return nil, err
	}
	singular, err := a.str("singular", "")
	if err != nil {
		return nil, err
	}
	const epsilon = 2.220446049250313e-16
	if math.Abs(math.Abs(n)-1) > epsilon {
		return plural, nil
	}
	return singular, nil
}

func round(_ *run, v any, a args) (any, error) {
	n, ok := toFloat(v)
	if !ok {
		return nil, fmt.Errorf("a number is needed, this is %s", render.KindOf(v))
	}
	method, err := a.str("method", "common")
	if err != nil {
		return nil, err
	}
	precision, err := a.integer("precision", 0)
	if err != nil {
		return nil, err
	}
	if precision < math.MinInt32 || precision > math.MaxInt32 {
		return nil, fmt.Errorf("the argument %q does not fit 32 bits", "precision")
	}
	scale := math.Pow10(int(precision))
	var f float64
	switch method {
	case "common":
		f = math.Round(scale * n)
	case "ceil":
		f = math.Ceil(scale * n)
	case "floor":
		f = math.Floor(scale * n)
	default:
		return nil, fmt.Errorf("the method is %q, not common, ceil or floor", method)
	}
	f /= scale
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, nil
	}
	return f, nil
}

var (
	decimalUnits = [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	binaryUnits  = [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
)

// fileSize counts in 1024s under either set of names, as Tera does.
func fileSize(_ *run, v any, a args) (any, error) {
	n, ok := toNumber(v)
	if !ok || !n.unsigned() {
		return nil, errors.New("an integer that is not negative is needed")
	}
	binary, err := a.boolean("binary", false)
	if err != nil {
		return nil, err
	}
	units := decimalUnits
	if binary {
		units = binaryUnits
	}
	size, unit := float64(n.uint()), 0
	for ; size >= 1024; unit++ {
		size /= 1024
	}
	digits := 2
	if size == math.Trunc(size) {
		digits = 0
	}
	return strconv.FormatFloat(size, 'f', digits, 64) + " " + units[unit], nil
}

func length(r *run, v any, _ args) (any, error) {
	switch v := v.(type) {
	case []any:
		return int64(len(v)), nil
	case *render.Map:
		return int64(v.Len()), nil
	case string:
		n := 0
		for range v {
			n++
		}
		return int64(n), r.step(len(v) / 256)
	}
	return nil, fmt.Errorf("an array, a map or a string is needed, this is %s", render.KindOf(v))
}

func reverse(_ *run, v any, _ args) (any, error) {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[len(v)-1-i] = item
		}
		return list, nil
	case string:
		b := make([]byte, len(v))
		end := len(b)
		for i, c := range v {
			n := len(string(c))
			if c == '\uFFFD' {
				n = min(n, len(v)-i)
			}
			end -= n
			if end < 0 {
				return nil, errors.New("the string is not UTF-8")
			}
			copy(b[end:], v[i:i+n])
		}
		return string(b), nil
	}
	return nil, fmt.Errorf("an array or a string is needed, this is %s", render.KindOf(v))
}

func jsonEncode(r *run, v any, a args) (any, error) {
	pretty, _ := a.get("pretty")
	return r.json(v, pretty == true)
}

func asStr(r *run, v any, _ args) (any, error) {
	return r.show(v)
}
