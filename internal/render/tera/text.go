package tera

import (
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

var (
	addSlashes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`)
	lineBreaks = strings.NewReplacer("\r\n", "<br>", "\n", "<br>")
	escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#x27;", "/", "&#x2F;")
	escapeXML  = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&apos;")
)

var tagsPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`<!--.*?-->|<[^>]*>`) })

func stripTags(s string) string { return tagsPattern().ReplaceAllLiteralString(s, "") }

// spaceless drops whitespace between > and <.
func spaceless(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '>')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i+1])
		s = s[i+1:]
		if rest := strings.TrimLeftFunc(s, isSpace); strings.HasPrefix(rest, "<") {
			s = rest
		}
	}
}

// urlKept are the characters besides letters and digits that urlencode keeps.
const urlKept = "%-./_~"

func percentEncode(s, keep string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c) || strings.IndexByte(keep, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// specialUpper are the letters whose upper case is more than one character
// (Unicode SpecialCasing.txt, without the Greek iota subscripts).
var specialUpper = map[rune]string{
	'ß': "SS", 'ŉ': "ʼN", 'ǰ': "J̌", 'ΐ': "Ι\u0308\u0301", 'ΰ': "Υ\u0308\u0301", 'և': "ԵՒ", 'ẖ': "H̱", 'ẗ': "T̈", 'ẘ': "W̊", 'ẙ': "Y̊", 'ẚ': "Aʾ",
	'ﬀ': "FF", 'ﬁ': "FI", 'ﬂ': "FL", 'ﬃ': "FFI", 'ﬄ': "FFL", 'ﬅ': "ST", 'ﬆ': "ST",
	'ﬓ': "ՄՆ", 'ﬔ': "ՄԵ", 'ﬕ': "ՄԻ", 'ﬖ': "ՎՆ", 'ﬗ': "ՄԽ",
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func toUpper(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	var b strings.Builder
	for _, c := range s {
		writeUpper(&b, c)
	}
	return b.String()
}

func writeUpper(b *strings.Builder, c rune) {
	if special, ok := specialUpper[c]; ok {
		b.WriteString(special)
		return
	}
	b.WriteRune(unicode.ToUpper(c))
}

// toLower lowers with the two rules that Rust has beyond single letters: İ, and
// Σ at the end of a word.
func toLower(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	for i, c := range s {
		switch {
		case c == 'İ':
			b.WriteString("i̇")
		case c == 'Σ' && finalSigma(s, i):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(c))
		}
	}
	return b.String()
}

func finalSigma(s string, i int) bool {
	before, _ := utf8.DecodeLastRuneInString(strings.TrimRightFunc(s[:i], caseIgnorable))
	after, _ := utf8.DecodeRuneInString(strings.TrimLeftFunc(s[i+len("Σ"):], caseIgnorable))
	return cased(before) && !cased(after)
}

func cased(c rune) bool {
	return unicode.In(c, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

func caseIgnorable(c rune) bool {
	return c == '\'' || c == '.' || c == ':' || c == '·' || c == '’' || unicode.In(c, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk)
}

func capitalize(s string) string {
	first, n := utf8.DecodeRuneInString(s)
	if n == 0 {
		return ""
	}
	return toUpper(string(first)) + toLower(s[n:])
}

// titleWords is Tera's own title: the first letter of every word up, the rest
// down. Words are of letters, digits, underscores, and apostrophes inside.
func titleWords(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		n := 0
		for n < len(s) {
			c, size := utf8.DecodeRuneInString(s[n:])
			if !wordRune(c) && c != '\'' {
				break
			}
			n += size
		}
		if n == 0 {
			_, size := utf8.DecodeRuneInString(s)
			b.WriteString(s[:size])
			s = s[size:]
			continue
		}
		run := s[:n]
		s = s[n:]
		word := strings.Trim(run, "'")
		at := strings.Index(run, word)
		b.WriteString(run[:at])
		b.WriteString(capitalize(word))
		b.WriteString(run[at+len(word):])
	}
	return b.String()
}

func wordRune(c rune) bool {
	return unicode.In(c, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}

// slugify lowers, writes the letters of Europe and kana in plain ones and puts one
// dash for everything else between words. Letters of other scripts are left out.
func slugify(s string) string {
	var b strings.Builder
	dash := false
	write := func(c byte) {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', isDigit(c):
		default:
			dash = b.Len() > 0
			return
		}
		if dash {
			b.WriteByte('-')
			dash = false
		}
		b.WriteByte(c)
	}
	for _, c := range s {
		if c < utf8.RuneSelf {
			write(byte(c))
			continue
		}
		plain, known := plainTable()[c]
		if !known && !unicode.In(c, unicode.M, unicode.Cf) {
			plain = "-"
		}
		for i := range len(plain) {
			write(plain[i])
		}
	}
	return b.String()
}

var plainTable = sync.OnceValue(func() map[rune]string {
	table := map[rune]string{}
	for _, l := range plainLetters {
		for _, c := range l.letters {
			table[c] = l.plain
		}
	}
	return table
})

// graphemes splits a string into what a reader sees as characters.
func (r *run) graphemes(s string) ([]any, error) {
	if err := r.create(32 * len(s)); err != nil {
		return nil, err
	}
	var list []any
	for len(s) > 0 {
		n := graphemeLen(s)
		list = append(list, s[:n])
		s = s[n:]
	}
	return list, nil
}

// graphemeLen returns the length of the first grapheme cluster of s by the
// rules of Unicode Standard Annex 29, without the Indic conjuncts and with emoji
// taken by block.
func graphemeLen(s string) int {
	c, n := utf8.DecodeRuneInString(s)
	if c < utf8.RuneSelf && (len(s) == n || s[n] < utf8.RuneSelf) {
		if c == '\r' && strings.HasPrefix(s[n:], "\n") {
			return n + 1
		}
		return n
	}
	if breaks(c) {
		return n
	}
	flags := 0
	if isFlag(c) {
		flags = 1
	}
	emoji := isEmoji(c)
	for n < len(s) {
		next, size := utf8.DecodeRuneInString(s[n:])
		switch {
		case next == '\u200d' || extends(next):
		case unicode.Is(unicode.Prepended_Concatenation_Mark, c) && !breaks(next):
		case c == '\u200d' && emoji && isEmoji(next):
		case flags == 1 && isFlag(next):
			flags = 2
		case hangul(c, next):
		default:
			return n
		}
		if isEmoji(next) {
			emoji = true
		}
		c, n = next, n+size
	}
	return n
}

// breaks reports whether nothing belongs to c but itself.
func breaks(c rune) bool {
	return unicode.In(c, unicode.Cc, unicode.Zl, unicode.Zp) ||
		unicode.Is(unicode.Cf, c) && !extends(c) && c != '\u200d' && !unicode.Is(unicode.Prepended_Concatenation_Mark, c)
}

func extends(c rune) bool {
	return unicode.In(c, unicode.Mn, unicode.Me, unicode.Mc) || c == 'ำ' || c == 'ຳ' || c == '\u200c' || c >= 0x1F3FB && c <= 0x1F3FF ||
		c >= 0xFE00 && c <= 0xFE0F || c >= 0xE0020 && c <= 0xE007F
}

func isFlag(c rune) bool { return c >= 0x1F1E6 && c <= 0x1F1FF }

func isEmoji(c rune) bool {
	return c >= 0x1F300 && c <= 0x1FAFF && !(c >= 0x1F3FB && c <= 0x1F3FF) || c >= 0x2600 && c <= 0x27BF || c == '©' || c == '®' || c == '™' || c == '❤'
}

// hangul reports whether two jamo or syllables belong together.
func hangul(a, b rune) bool {
	lead := func(c rune) bool { return c >= 0x1100 && c <= 0x115F || c >= 0xA960 && c <= 0xA97C }
	vowel := func(c rune) bool { return c >= 0x1160 && c <= 0x11A7 || c >= 0xD7B0 && c <= 0xD7C6 }
	tail := func(c rune) bool { return c >= 0x11A8 && c <= 0x11FF || c >= 0xD7CB && c <= 0xD7FB }
	syllable := func(c rune) bool { return c >= 0xAC00 && c <= 0xD7A3 }
	open := syllable(a) && (a-0xAC00)%28 == 0
	switch {
	case lead(a):
		return lead(b) || vowel(b) || syllable(b)
	case vowel(a) || open:
		return vowel(b) || tail(b)
	case tail(a) || syllable(a):
		return tail(b)
	}
	return false
}
