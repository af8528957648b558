package doorgen

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The few shapes of YAML that the generated files need. A mapping keeps its order.
type (
	pair struct {
		key   string
		value any
	}
	mapping  []pair
	sequence []any
	// inline is a sequence of strings on one line.
	inline []string
)

// emit returns v, a mapping or a sequence, as a YAML document. Values may be
// mappings, sequences, inline sequences, strings, booleans and integers; anything
// else is a mistake in this package.
func emit(v any) string {
	var b strings.Builder
	write(&b, v, 0)
	return b.String()
}

func write(b *strings.Builder, v any, depth int) {
	pad := strings.Repeat("  ", depth)
	switch v := v.(type) {
	case mapping:
		for _, p := range v {
			fmt.Fprintf(b, "%s%s:", pad, scalar(p.key))
			writeValue(b, p.value, depth+1)
		}
	case sequence:
		for _, item := range v {
			if m, ok := item.(mapping); ok && len(m) > 0 {
				var inner strings.Builder
				write(&inner, m, depth+1)
				fmt.Fprintf(b, "%s- %s", pad, strings.TrimPrefix(inner.String(), pad+"  "))
				continue
			}
			fmt.Fprintf(b, "%s-", pad)
			writeValue(b, item, depth+1)
		}
	default:
		panic(fmt.Sprintf("doorgen: a %T is no YAML document", v))
	}
}

func writeValue(b *strings.Builder, v any, depth int) {
	switch v := v.(type) {
	case mapping, sequence:
		b.WriteByte('\n')
		write(b, v, depth)
	case inline:
		items := make([]string, len(v))
		for i, item := range v {
			items[i] = quote(item)
		}
		fmt.Fprintf(b, " [%s]\n", strings.Join(items, ", "))
	case string:
		fmt.Fprintf(b, " %s\n", scalar(v))
	case bool, int:
		fmt.Fprintf(b, " %v\n", v)
	default:
		panic(fmt.Sprintf("doorgen: a %T is no YAML value", v))
	}
}

// plain are strings that every YAML version reads as themselves.
var plain = regexp.MustCompile(`^([A-Za-z]|\.{0,2}/|\.[A-Za-z])[A-Za-z0-9 ,./_-]*$`)

// words are plain strings that some YAML version reads as something else.
var words = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null", ".inf", ".nan"}

// scalar returns s as a YAML scalar: bare where nothing can be read otherwise.
func scalar(s string) string {
	if plain.MatchString(s) && !strings.HasSuffix(s, " ") && !slices.Contains(words, strings.ToLower(s)) {
		return s
	}
	return quote(s)
}

// quote returns s as a JSON string, which is a YAML string too.
func quote(s string) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic(err) // a string always encodes
	}
	return strings.TrimSuffix(b.String(), "\n")
}
