package jsonld

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/piprate/json-gold/ld"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// document is a JSON document.
type document struct {
	opts    Options
	text    []byte
	root    any
	remotes []remote
	memory  int64

	bases   int  // members called @base
	awkward bool // relative IRIs are to be resolved by the library; see plainBase
}

// remote is a context that the document only names.
type remote struct {
	iri string
	at  int
}

// Estimates of what a document takes in memory, expanded, which
// Options.MaxMemory bounds.
const (
	objectBytes = 800 // of an object and its expansion
	scalarBytes = 450 // of a scalar, which expands to an object
	arrayBytes  = 100
)

// decode reads a JSON text (RFC 8259). Objects with two members of one name are
// refused: which of them counts is nowhere settled.
func decode(r io.Reader, opts Options) (*document, error) {
	text, err := io.ReadAll(io.LimitReader(r, opts.MaxBytes+1))
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "", "read "+opts.File)
	}
	d := &document{opts: opts, text: bytes.TrimPrefix(text, []byte("\xEF\xBB\xBF"))}
	if int64(len(text)) > opts.MaxBytes {
		return nil, d.errorAt(len(d.text), fmt.Sprintf("the input is longer than %d bytes", opts.MaxBytes)).Fault("convert it to Turtle or N-Triples, which are read as a stream")
	}
	if at := invalid(d.text); at >= 0 {
		return nil, d.errorAt(at, "a byte that is not UTF-8").Fault("save the file as UTF-8")
	}
	in := reader{document: d, dec: json.NewDecoder(bytes.NewReader(d.text))}
	in.dec.UseNumber()
	if d.root, err = in.value(0, ""); err != nil {
		return nil, err
	}
	if _, err := in.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, d.errorAt(in.before(), "a second value after the document").Fault("")
	}
	return d, nil
}

// invalid returns the place of the first byte that is not UTF-8, or -1.
func invalid(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for at := 0; ; {
		r, n := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && n <= 1 {
			return at
		}
		at += n
	}
}

// reader builds values from tokens.
type reader struct {
	*document
	dec *json.Decoder
}

// before returns the place of the token that comes next.
func (r *reader) before() int {
	at := int(r.dec.InputOffset())
	for at < len(r.text) && bytes.IndexByte([]byte(" \t\r\n,:"), r.text[at]) >= 0 {
		at++
	}
	return at
}

// token returns the next token and its place.
func (r *reader) token() (json.Token, int, error) {
	at := r.before()
	t, err := r.dec.Token()
	if err == nil {
		return t, at, nil
	}
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		return nil, at, r.errorAt(r.blamed(syntax), syntax.Error()).Fault("")
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, at, r.errorAt(len(r.text), "the document ends too early").Fault("")
	}
	return nil, at, r.errorAt(at, err.Error()).Fault("")
}

// blamed returns the place of the character that a message names: some errors
// count it among what was read, others do not.
func (r *reader) blamed(e *json.SyntaxError) int {
	at := int(e.Offset)
	if at < len(r.text) && strings.Contains(e.Error(), "'"+string(r.text[at])+"'") {
		return at
	}
	return max(at-1, 0)
}

// value reads a value that is depth levels deep. key is the member whose value
// it is, or is an item of.
func (r *reader) value(depth int, key string) (any, error) {
	t, at, err := r.token()
	if err != nil {
		return nil, err
	}
	if err := r.charge(t, at); err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if depth == r.opts.MaxDepth {
			return nil, r.errorAt(at, fmt.Sprintf("nested deeper than %d levels", r.opts.MaxDepth)).Fault("raise the limit of depth")
		}
		if t == '{' {
			return r.object(depth)
		}
		return r.array(depth, key)
	case string:
		if len(t) > r.opts.MaxToken {
			return nil, r.errorAt(at, fmt.Sprintf("a string longer than %d bytes", r.opts.MaxToken)).Fault("")
		}
		switch key {
		case "@context", "@import":
			r.remotes = append(r.remotes, remote{t, at})
		case "@vocab":
			r.awkward = r.awkward || !strings.Contains(t, ":")
		}
		r.awkward = r.awkward || reserved.MatchString(t) && !ld.IsKeyword(t)
	case json.Number:
		if key == "@version" { // which the library compares with 1.1
			f, err := t.Float64()
			if err == nil {
				return f, nil
			}
		}
	}
	return t, nil
}

// reserved are texts that look like keywords. Those that are none are ignored,
// which the library says by an empty IRI: the same as "" without a base.
var reserved = regexp.MustCompile(`^@[A-Za-z]+$`)

// charge counts the memory that a value takes.
func (r *reader) charge(t json.Token, at int) error {
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			r.memory += objectBytes
		} else {
			r.memory += arrayBytes
		}
	case string:
		r.memory += scalarBytes + 2*int64(len(t))
	default:
		r.memory += scalarBytes
	}
	if r.memory > r.opts.MaxMemory {
		return r.errorAt(at, fmt.Sprintf("the document takes more than %d MiB of memory", r.opts.MaxMemory>>20)).
			Fault("raise the memory limit, or convert it to Turtle or N-Triples, which are read as a stream")
	}
	return nil
}

func (r *reader) object(depth int) (any, error) {
	members := map[string]any{}
	for r.dec.More() {
		t, at, err := r.token()
		if err != nil {
			return nil, err
		}
		key, ok := t.(string)
		if !ok {
			return nil, r.errorAt(at, "the name of a member is a string").Fault("")
		}
		if _, again := members[key]; again {
			return nil, r.errorAt(at, fmt.Sprintf("the member %q stands twice in one object", key)).Fault("write one array of both values")
		}
		r.memory += int64(len(key)) * 2
		if key == "@base" {
			r.bases++
		}
		if members[key], err = r.value(depth+1, key); err != nil {
			return nil, err
		}
	}
	_, _, err := r.token()
	return members, err
}

func (r *reader) array(depth int, key string) (any, error) {
	items := []any{}
	for r.dec.More() {
		item, err := r.value(depth+1, key)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	_, _, err := r.token()
	return items, err
}

// errorAt is an error at a place of the text.
func (d *document) errorAt(at int, message string) *graph.SyntaxError {
	at = min(at, len(d.text))
	start := bytes.LastIndexByte(d.text[:at], '\n') + 1
	stop := len(d.text)
	if i := bytes.IndexAny(d.text[at:], "\r\n"); i >= 0 {
		stop = at + i
	}
	return &graph.SyntaxError{
		File: d.opts.File, Line: bytes.Count(d.text[:at], []byte("\n")) + 1, Column: utf8.RuneCount(d.text[start:at]) + 1,
		Source: string(d.text[start:stop]), Offset: at - start, Message: message,
	}
}
