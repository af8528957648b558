package rdfxml

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

var encodingName = regexp.MustCompile(`^<\?xml\s[^>]*?\sencoding\s*=\s*["']([A-Za-z][A-Za-z0-9._-]*)["']`)

// decode returns the text of an XML entity in UTF-8, as its byte order mark or
// its XML declaration says (XML 1.0, section 4.3.3 and appendix F).
func decode(r io.Reader) (io.Reader, error) {
	in := bufio.NewReaderSize(r, 4096)
	head, err := in.Peek(256)
	if err != nil && !errors.Is(err, io.EOF) && len(head) == 0 {
		return in, nil // the reading itself reports it
	}
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(head, []byte("\xEF\xBB\xBF")):
		_, err := in.Discard(3)
		return in, err
	case bytes.HasPrefix(head, []byte("\xFE\xFF")), bytes.HasPrefix(head, []byte("\x00<\x00?")):
		order = binary.BigEndian
	case bytes.HasPrefix(head, []byte("\xFF\xFE")), bytes.HasPrefix(head, []byte("<\x00?\x00")):
		order = binary.LittleEndian
	}
	if order != nil {
		return &transcoder{next: func() (rune, error) { return utf16Rune(in, order) }, first: true}, nil
	}
	name := "utf-8"
	if m := encodingName.FindSubmatch(head); m != nil {
		name = strings.ToLower(string(m[1]))
	}
	switch name {
	case "utf-8", "utf8", "us-ascii", "ascii":
		return in, nil
	case "iso-8859-1", "latin1", "iso_8859-1":
		return &transcoder{next: func() (rune, error) { b, err := in.ReadByte(); return rune(b), err }}, nil
	}
	return nil, fmt.Errorf("the encoding %q is not read; UTF-8, UTF-16, ISO-8859-1 and US-ASCII are", name)
}

// utf16Rune reads one character. What is not UTF-16 becomes the character
// U+FFFF, which XML does not have.
func utf16Rune(in *bufio.Reader, order binary.ByteOrder) (rune, error) {
	const wrong = 0xFFFF
	unit := func() (rune, error) {
		var b [2]byte
		_, err := io.ReadFull(in, b[:])
		return rune(order.Uint16(b[:])), err
	}
	r, err := unit()
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return wrong, nil
	case err != nil || !utf16.IsSurrogate(r):
		return r, err
	}
	low, err := unit()
	if r = utf16.DecodeRune(r, low); err != nil || r == utf8.RuneError {
		return wrong, nil
	}
	return r, nil
}

// transcoder gives characters as UTF-8.
type transcoder struct {
	next  func() (rune, error)
	first bool // the next character may be a byte order mark
	rest  []byte
	err   error
}

func (t *transcoder) Read(p []byte) (n int, err error) {
	for {
		k := copy(p[n:], t.rest)
		n, t.rest = n+k, t.rest[k:]
		if n == len(p) || t.err != nil {
			if n > 0 {
				return n, nil
			}
			return n, t.err
		}
		r, err := t.next()
		if err != nil {
			t.err = err
			continue
		}
		if t.first && r == 0xFEFF {
			t.first = false
			continue
		}
		t.first = false
		t.rest = utf8.AppendRune(t.rest[:0], r)
	}
}
