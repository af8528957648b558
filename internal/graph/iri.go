package graph

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// CheckIRI tells whether s consists of characters that an IRI may have in
// N-Triples, Turtle and SPARQL (production IRIREF): not empty, no control
// character, no space, none of <>"{}|^`\ .
func CheckIRI(s string) error {
	if s == "" {
		return errors.New("an IRI may not be empty")
	}
	for i := range len(s) {
		if iriForbidden[s[i]] {
			return fmt.Errorf("%q may not stand in an IRI", s[i])
		}
	}
	return nil
}

var iriForbidden = func() (t [256]bool) {
	for c := range 0x21 {
		t[c] = true
	}
	for _, c := range []byte("<>\"{}|^`\\") {
		t[c] = true
	}
	return t
}()

// iriParts are the five components of RFC 3986, section 3. The flags tell an
// absent component from an empty one.
type iriParts struct {
	scheme, authority, path, query, fragment string
	hasAuthority, hasQuery, hasFragment      bool
}

// IsAbsoluteIRI tells whether s starts with a scheme.
func IsAbsoluteIRI(s string) bool { return schemeLength(s) > 0 }

// schemeLength returns the length of the scheme without its colon, or 0.
func schemeLength(s string) int {
	for i := range len(s) {
		c := s[i]
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		case i > 0 && c == ':':
			return i
		default:
			return 0
		}
	}
	return 0
}

func splitIRI(s string) iriParts {
	var p iriParts
	if n := schemeLength(s); n > 0 {
		p.scheme, s = s[:n], s[n+1:]
	}
	s, p.fragment, p.hasFragment = strings.Cut(s, "#")
	s, p.query, p.hasQuery = strings.Cut(s, "?")
	if rest, ok := strings.CutPrefix(s, "//"); ok {
		p.hasAuthority = true
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			p.authority, s = rest[:i], rest[i:]
		} else {
			p.authority, s = rest, ""
		}
	}
	p.path = s
	return p
}

func (p iriParts) join() string {
	var b strings.Builder
	if p.scheme != "" {
		b.WriteString(p.scheme)
		b.WriteByte(':')
	}
	if p.hasAuthority {
		b.WriteString("//")
		b.WriteString(p.authority)
	}
	b.WriteString(p.path)
	if p.hasQuery {
		b.WriteByte('?')
		b.WriteString(p.query)
	}
	if p.hasFragment {
		b.WriteByte('#')
		b.WriteString(p.fragment)
	}
	return b.String()
}

// ResolveIRI resolves a reference against a base IRI as RFC 3986, section
// 5.2.2 does (strict; no other normalisation, as RDF 1.1 asks). An absolute
// reference is returned as it is. A relative one without an absolute base is
// an error.
func ResolveIRI(base, ref string) (string, error) {
	if IsAbsoluteIRI(ref) {
		return ref, nil
	}
	if !IsAbsoluteIRI(base) {
		return "", fmt.Errorf("<%s> is a relative IRI and there is no base", ref)
	}
	b, r := splitIRI(base), splitIRI(ref)
	t := iriParts{scheme: b.scheme, fragment: r.fragment, hasFragment: r.hasFragment}
	switch {
	case r.hasAuthority:
		t.authority, t.hasAuthority = r.authority, true
		t.path, t.query, t.hasQuery = removeDotSegments(r.path), r.query, r.hasQuery
	case r.path == "":
		t.authority, t.hasAuthority = b.authority, b.hasAuthority
		t.path, t.query, t.hasQuery = b.path, b.query, b.hasQuery
		if r.hasQuery {
			t.query, t.hasQuery = r.query, true
		}
	default:
		t.authority, t.hasAuthority = b.authority, b.hasAuthority
		t.query, t.hasQuery = r.query, r.hasQuery
		t.path = removeDotSegments(mergePaths(b, r.path))
	}
	return t.join(), nil
}

// mergePaths is RFC 3986, section 5.2.3, and the case of an absolute path.
func mergePaths(base iriParts, ref string) string {
	switch {
	case strings.HasPrefix(ref, "/"):
		return ref
	case base.hasAuthority && base.path == "":
		return "/" + ref
	}
	return base.path[:strings.LastIndexByte(base.path, '/')+1] + ref
}

// removeDotSegments is RFC 3986, section 5.2.4.
func removeDotSegments(in string) string {
	out := make([]byte, 0, len(in))
	for in != "" {
		switch {
		case strings.HasPrefix(in, "../"):
			in = in[3:]
		case strings.HasPrefix(in, "./"):
			in = in[2:]
		case strings.HasPrefix(in, "/./"):
			in = in[2:]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../"), in == "/..":
			if in == "/.." {
				in = "/"
			} else {
				in = in[3:]
			}
			out = out[:max(0, bytes.LastIndexByte(out, 0x2f))]
		case in == ".", in == "..":
			in = ""
		default:
			n := strings.IndexByte(in[1:], '/') + 1
			if n == 0 {
				n = len(in)
			}
			out = append(out, in[:n]...)
			in = in[n:]
		}
	}
	return string(out)
}
