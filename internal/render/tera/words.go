package tera

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The filters of the ggen dialect that change the case and the number of
// words. They keep to the rules of the Rust crates Inflector 0.11 (short names)
// and heck 0.5 (names that end in _case, and the shouting ones), where these
// are wrong too.
func addWordFilters(table map[string]filterFunc) {
	for name, f := range map[string]func(string) string{
		"camel":  func(s string) string { return camelLike(s, camelStyle{}) },
		"pascal": pascal,
		"snake":  func(s string) string { return snakeLike(s, '_') },
		"kebab":  func(s string) string { return snakeLike(s, '-') },
		"class":  class,
		"title":  func(s string) string { return camelLike(s, camelStyle{newWord: true, first: true, sep: " "}) },
		"sentence": func(s string) string {
			return camelLike(s, camelStyle{newWord: true, first: true, sep: " ", lower: true})
		},
		"train":         func(s string) string { return camelLike(s, camelStyle{newWord: true, first: true, sep: "-"}) },
		"singularize":   singular,
		"deconstantize": deconstantize,
		"demodulize":    demodulize,
		"ordinalize":    ordinalize,
		"deordinalize":  deordinalize,
		"foreign_key":   foreignKey,
		"tableize":      tableize,
		"classify":      class,
		"param":         func(s string) string { return snakeLike(s, '-') },

		"snake_case":        func(s string) string { return joinWords(s, "_", toLower, toLower) },
		"kebab_case":        func(s string) string { return joinWords(s, "-", toLower, toLower) },
		"pascal_case":       func(s string) string { return joinWords(s, "", capitalize, capitalize) },
		"camel_case":        func(s string) string { return joinWords(s, "", toLower, capitalize) },
		"title_case":        func(s string) string { return joinWords(s, " ", capitalize, capitalize) },
		"train_case":        func(s string) string { return joinWords(s, "-", capitalize, capitalize) },
		"titlecase":         func(s string) string { return joinWords(s, " ", capitalize, capitalize) },
		"shouty_snake":      shoutySnake,
		"shouty_snake_case": shoutySnake,
		"shouty":            shoutySnake,
		"constant":          shoutySnake,
		"shouty_kebab":      shoutyKebab,
		"shouty_kebab_case": shoutyKebab,

		"upper":   toUpper,
		"lower":   toLower,
		"lcfirst": func(s string) string { return changeFirst(s, toLower) },
		"ucfirst": func(s string) string { return changeFirst(s, toUpper) },
	} {
		table[name] = onAnything(f)
	}
	table["pluralize"] = pluralize
	table["hex_to_u64"] = hexToUint
}

// onAnything takes a string as it is and everything else as JSON.
func onAnything(f func(string) string) filterFunc {
	return func(r *run, v any, _ args) (any, error) {
		s, ok := v.(string)
		if !ok {
			var err error
			if s, err = r.json(v, false); err != nil {
				return nil, err
			}
		}
		if err := r.afford(maxGrowth * len(s)); err != nil {
			return nil, err
		}
		return f(s), r.step(1 + len(s)/16)
	}
}

var pluralAnything = onAnything(plural)

// pluralize changes a word to its plural. A number with arguments gets Tera's
// own meaning, a suffix.
func pluralize(r *run, v any, a args) (any, error) {
	if _, isNumber := toNumber(v); isNumber && len(a.values) > 0 {
		return pluralSuffix(r, v, a)
	}
	return pluralAnything(r, v, a)
}

func hexToUint(_ *run, v any, _ args) (any, error) {
	s, err := text(v)
	if err != nil {
		return nil, err
	}
	digits := strings.TrimPrefix(strings.TrimPrefix(s, "0x"), "0X")
	n, err := strconv.ParseUint(digits, 16, 64)
	if errors.Is(err, strconv.ErrRange) {
		return nil, fmt.Errorf("%q does not fit 64 bits", s)
	}
	if err != nil {
		return nil, fmt.Errorf("%q is not a hexadecimal number", s)
	}
	return fromUint(n).value(), nil
}

func notAlphanumeric(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsNumber(c) }

func asciiLower(c rune) rune {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

func asciiUpper(c rune) rune {
	if c >= 'a' && c <= 'z' {
		return c - ('a' - 'A')
	}
	return c
}

// camelStyle says how camelLike writes the starts of words.
type camelStyle struct {
	newWord bool   // the first letter starts a word
	first   bool   // the first word has no separator before it
	sep     string // before a word
	lower   bool   // words but the first start in lower case
}

// camelLike is Inflector's rule for cases with capitals: what is not a letter
// or digit ends a word, and so does a digit; a capital behind a small letter
// starts one.
func camelLike(s string, style camelStyle) string {
	var b strings.Builder
	newWord, first, last, found := style.newWord, style.first, ' ', false
	for _, c := range strings.TrimRightFunc(s, notAlphanumeric) {
		switch {
		case notAlphanumeric(c):
			newWord = newWord || found
		case unicode.IsNumber(c):
			found, newWord = true, true
			b.WriteRune(c)
		case newWord || unicode.IsLower(last) && unicode.IsUpper(c):
			if !first {
				b.WriteString(style.sep)
			}
			if style.lower && !first {
				b.WriteRune(asciiLower(c))
			} else {
				b.WriteRune(asciiUpper(c))
			}
			found, newWord, first = true, false, false
		default:
			found, last = true, c
			b.WriteRune(asciiLower(c))
		}
	}
	return b.String()
}

func pascal(s string) string { return camelLike(s, camelStyle{newWord: true}) }

// snakeLike is Inflector's rule for cases with separators: a capital or a digit
// that has a small letter on either side starts a word.
func snakeLike(s string, sep byte) string {
	all := []rune(s)
	smallAt := func(i int) bool { return i >= 0 && i < len(all) && unicode.IsLower(all[i]) }
	var b strings.Builder
	first := true
	// The crate looks for neighbours by byte offset among characters.
	for i, c := range strings.TrimRightFunc(s, notAlphanumeric) {
		if notAlphanumeric(c) {
			if !first {
				b.WriteByte(sep)
			}
			first = true
			continue
		}
		if !first && c == asciiUpper(c) && (smallAt(i+1) || smallAt(i-1)) {
			b.WriteByte(sep)
		}
		first = false
		b.WriteRune(asciiLower(c))
	}
	return b.String()
}

// class is pascal with the last word in the singular.
func class(s string) string {
	p := pascal(s)
	i := max(strings.LastIndexFunc(p, unicode.IsUpper), 0)
	return p[:i] + singular(p[i:])
}

func tableize(s string) string {
	p := snakeLike(s, '_')
	i := max(strings.LastIndexByte(p, '_'), 0)
	return p[:i] + plural(p[i:])
}

func deconstantize(s string) string {
	parts := strings.Split(s, "::")
	if len(parts) < 2 {
		return ""
	}
	return class(parts[len(parts)-2])
}

func demodulize(s string) string {
	if i := strings.LastIndex(s, "::"); i >= 0 {
		return class(s[i+2:])
	}
	return s
}

func foreignKey(s string) string {
	if i := strings.LastIndex(s, "::"); i >= 0 {
		s = s[i+2:]
	}
	s = snakeLike(s, '_')
	return strings.TrimSuffix(s, "_id") + "_id"
}

func ordinalize(s string) string {
	last, n := utf8.DecodeLastRuneInString(s)
	if n == 0 || !unicode.IsNumber(last) {
		return s
	}
	if before := s[:len(s)-n]; strings.HasSuffix(before, "1") {
		return s + "th"
	} else if before != "" && strings.Contains(s, ".") {
		return s
	}
	switch last {
	case '1':
		return s + "st"
	case '2':
		return s + "nd"
	case '3':
		return s + "rd"
	}
	return s + "th"
}

func deordinalize(s string) string {
	if strings.Contains(s, ".") {
		return s
	}
	for _, suffix := range [...]string{"st", "nd", "rd", "th"} {
		for strings.HasSuffix(s, suffix) {
			s = strings.TrimSuffix(s, suffix)
		}
	}
	return s
}

func changeFirst(s string, change func(string) string) string {
	_, n := utf8.DecodeRuneInString(s)
	return change(s[:n]) + s[n:]
}

func shoutySnake(s string) string { return joinWords(s, "_", toUpper, toUpper) }
func shoutyKebab(s string) string { return joinWords(s, "-", toUpper, toUpper) }

// joinWords writes the words of s by heck's rules.
func joinWords(s, sep string, first, rest func(string) string) string {
	var b strings.Builder
	write := first
	for _, part := range strings.FieldsFunc(s, notAlphanumeric) {
		for part != "" {
			n := wordLen(part)
			if b.Len() > 0 {
				b.WriteString(sep)
			}
			b.WriteString(write(part[:n]))
			part, write = part[n:], rest
		}
	}
	return b.String()
}

// wordLen returns the length of the first word of letters and digits: it ends
// between a small letter and a capital, and before the last of several capitals
// that a small letter follows. Digits belong to the word before them.
func wordLen(s string) int {
	small, capital := false, false // the last letter that had a case
	for i, c := range s {
		n := i + utf8.RuneLen(c)
		if n >= len(s) {
			break
		}
		next, _ := utf8.DecodeRuneInString(s[n:])
		isSmall, isCapital := small, capital
		if unicode.IsLower(c) {
			isSmall, isCapital = true, false
		} else if unicode.IsUpper(c) {
			isSmall, isCapital = false, true
		}
		switch {
		case isSmall && unicode.IsUpper(next):
			return n
		case capital && unicode.IsUpper(c) && unicode.IsLower(next):
			return i
		}
		small, capital = isSmall, isCapital
	}
	return len(s)
}
