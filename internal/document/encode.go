package document

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// QuoteTOML returns s as a TOML basic string on one line. Bytes that are not
// UTF-8, which TOML cannot hold, become U+FFFD.
func QuoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch r {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case '\n':
			b.WriteString(`\n`)
		case '\r':
			b.WriteString(`\r`)
		case '\t':
			b.WriteString(`\t`)
		default:
			if r < 0x20 || r == 0x7f {
				fmt.Fprintf(&b, `\u%04X`, r)
				continue
			}
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// KeyTOML returns s as a TOML key, quoted if it has to be.
func KeyTOML(s string) string {
	bare := s != "" && utf8.ValidString(s)
	for i := 0; bare && i < len(s); i++ {
		c := s[i]
		bare = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
	}
	if bare {
		return s
	}
	return QuoteTOML(s)
}
