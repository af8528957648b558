package sparql

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strings"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// arity is the number of arguments that a function takes.
type arity struct{ min, max int }

func (a arity) String() string {
	switch {
	case a.max > 100:
		return fmt.Sprintf("%d or more arguments", a.min)
	case a.min != a.max:
		return fmt.Sprintf("%d to %d arguments", a.min, a.max)
	case a.min == 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", a.min)
}

const anyNumber = 1 << 30

// builtins are the functions of production [121], without aggregates and EXISTS.
var builtins = map[string]arity{
	"STR": {1, 1}, "LANG": {1, 1}, "LANGMATCHES": {2, 2}, "DATATYPE": {1, 1}, "BOUND": {1, 1},
	"IRI": {1, 1}, "URI": {1, 1}, "BNODE": {0, 1}, "RAND": {0, 0}, "ABS": {1, 1}, "CEIL": {1, 1},
	"FLOOR": {1, 1}, "ROUND": {1, 1}, "CONCAT": {0, anyNumber}, "STRLEN": {1, 1}, "UCASE": {1, 1},
	"LCASE": {1, 1}, "ENCODE_FOR_URI": {1, 1}, "CONTAINS": {2, 2}, "STRSTARTS": {2, 2},
	"STRENDS": {2, 2}, "STRBEFORE": {2, 2}, "STRAFTER": {2, 2}, "YEAR": {1, 1}, "MONTH": {1, 1},
	"DAY": {1, 1}, "HOURS": {1, 1}, "MINUTES": {1, 1}, "SECONDS": {1, 1}, "TIMEZONE": {1, 1},
	"TZ": {1, 1}, "NOW": {0, 0}, "UUID": {0, 0}, "STRUUID": {0, 0}, "MD5": {1, 1}, "SHA1": {1, 1},
	"SHA256": {1, 1}, "SHA384": {1, 1}, "SHA512": {1, 1}, "COALESCE": {0, anyNumber}, "IF": {3, 3},
	"STRLANG": {2, 2}, "STRDT": {2, 2}, "SAMETERM": {2, 2}, "ISIRI": {1, 1}, "ISURI": {1, 1},
	"ISBLANK": {1, 1}, "ISLITERAL": {1, 1}, "ISNUMERIC": {1, 1}, "REGEX": {2, 3}, "SUBSTR": {2, 3},
	"REPLACE": {3, 4},
}

// builtin compiles a call of a built-in function.
func (pl *planner) builtin(s *scalar, e env) evaluator {
	args := pl.compileAll(s.args, e)
	switch s.name {
	case "BOUND":
		slot := s.args[0].slot
		return func() (value, bool) { return newBoolean(pl.x.row[slot] != 0), true }
	case "COALESCE": // section 17.4.1.3: the first argument without an error
		return func() (value, bool) {
			for _, arg := range args {
				if v, ok := arg(); ok {
					return v, true
				}
			}
			return value{}, false
		}
	case "IF": // section 17.4.1.2: evaluates one branch only
		return func() (value, bool) {
			v, ok := args[0]()
			if !ok {
				return value{}, false
			}
			truth, ok := v.ebv()
			switch {
			case !ok:
				return value{}, false
			case truth:
				return args[1]()
			}
			return args[2]()
		}
	}
	if s.name == "REGEX" {
		if eval := pl.constantRegex(s, args); eval != nil {
			return eval
		}
	}
	f := functions[s.name]
	return pl.x.strict(args, func(args []value) (value, bool) { return f(pl.x, args) })
}

// strict evaluates all arguments and fails if one does.
func (x *execution) strict(args []evaluator, f func([]value) (value, bool)) evaluator {
	values := make([]value, len(args))
	return func() (value, bool) {
		for i, arg := range args {
			v, ok := arg()
			if !ok {
				return value{}, false
			}
			values[i] = v
			x.spend(len(v.text))
		}
		v, ok := f(values)
		x.spend(len(v.text))
		return v, ok && x.shortEnough(len(v.text))
	}
}

// maxString bounds the strings that a query computes, in bytes.
const maxString = 16 << 20

// shortEnough ends the execution if a computed string has more bytes than are
// allowed.
func (x *execution) shortEnough(n int) bool {
	return n <= maxString || x.fail(fault.New(fault.Finding, "keep the parts apart, or take SUBSTR of them",
		"the query computes a string of more than %d bytes", maxString))
}

// functions are the built-ins whose arguments are all evaluated first.
var functions = map[string]func(x *execution, a []value) (value, bool){
	"STR":         func(_ *execution, a []value) (value, bool) { s, ok := a[0].str(); return newString(s), ok },
	"LANG":        lang,
	"LANGMATCHES": langMatches,
	"DATATYPE":    datatype,
	"IRI":         toIRI,
	"URI":         toIRI,
	"BNODE":       newBlankNode,
	"STRLANG":     strLang,
	"STRDT":       strDatatype,
	"SAMETERM": func(_ *execution, a []value) (value, bool) {
		return newBoolean(a[0].term() == a[1].term()), true
	},
	"ISIRI":     isKind(func(v value) bool { return v.kind == kindIRI }),
	"ISURI":     isKind(func(v value) bool { return v.kind == kindIRI }),
	"ISBLANK":   isKind(func(v value) bool { return v.kind == kindBlank }),
	"ISLITERAL": isKind(value.literal),
	"ISNUMERIC": isKind(value.numeric),

	"STRLEN":         strLen,
	"SUBSTR":         substr,
	"UCASE":          mapString(upper),
	"LCASE":          mapString(lower),
	"ENCODE_FOR_URI": encodeForURI,
	"CONCAT":         concat,
	"CONTAINS":       compareStrings(strings.Contains),
	"STRSTARTS":      compareStrings(strings.HasPrefix),
	"STRENDS":        compareStrings(strings.HasSuffix),
	"STRBEFORE":      strBefore,
	"STRAFTER":       strAfter,
	"REGEX":          regexTest,
	"REPLACE":        regexReplace,

	"ABS":   abs,
	"CEIL":  round(ceil, math.Ceil),
	"FLOOR": round(floor, math.Floor),
	"ROUND": round(roundHalfUp, func(f float64) float64 {
		whole := math.Floor(f)
		if f-whole >= 0.5 { // exact: the two are near each other, or both whole
			whole++
		}
		return math.Copysign(whole, f)
	}),
	"RAND": func(x *execution, _ []value) (value, bool) { return newDouble(float64(x.next()>>11) / (1 << 53)), true },

	"NOW": func(x *execution, _ []value) (value, bool) {
		v := value{text: x.now.Format("2006-01-02T15:04:05.999Z07:00"), aux: xsdDateTime}
		v.typed()
		return v, true
	},
	"YEAR":    part(func(m *moment) value { return newInteger(int64(m.year)) }),
	"MONTH":   part(func(m *moment) value { return newInteger(int64(m.month)) }),
	"DAY":     part(func(m *moment) value { return newInteger(int64(m.day)) }),
	"HOURS":   clockPart(func(m *moment) value { return newInteger(int64(m.hour)) }),
	"MINUTES": clockPart(func(m *moment) value { return newInteger(int64(m.minute)) }),
	"SECONDS": clockPart(func(m *moment) value {
		v := newDecimal(m.second)
		v.text = strings.TrimSuffix(formatDecimal(m.second), ".0")
		return v
	}),
	"TIMEZONE": func(_ *execution, a []value) (value, bool) {
		m, ok := a[0].x.(*moment)
		if !ok || m.zone == "" {
			return value{}, false
		}
		return value{kind: kindOther, text: m.duration(), aux: xsdDayTimeDuration}, true
	},
	"TZ": part(func(m *moment) value { return newString(m.zone) }),

	"MD5":    digest(func(s []byte) []byte { h := md5.Sum(s); return h[:] }),
	"SHA1":   digest(func(s []byte) []byte { h := sha1.Sum(s); return h[:] }),
	"SHA256": digest(func(s []byte) []byte { h := sha256.Sum256(s); return h[:] }),
	"SHA384": digest(func(s []byte) []byte { h := sha512.Sum384(s); return h[:] }),
	"SHA512": digest(func(s []byte) []byte { h := sha512.Sum512(s); return h[:] }),

	"UUID": func(x *execution, _ []value) (value, bool) {
		return value{kind: kindIRI, text: "urn:uuid:" + x.uuid()}, true
	},
	"STRUUID": func(x *execution, _ []value) (value, bool) { return newString(x.uuid()), true },
}

// str is STR (section 17.4.2.5): the lexical form of a literal, or an IRI.
func (v value) str() (string, bool) {
	switch {
	case v.kind == kindIRI || v.stringy():
		return v.text, true
	case v.literal():
		return v.lexical(), true
	}
	return "", false
}

func isKind(is func(value) bool) func(*execution, []value) (value, bool) {
	return func(_ *execution, a []value) (value, bool) { return newBoolean(is(a[0])), true }
}

// lang is LANG (section 17.4.2.6).
func lang(_ *execution, a []value) (value, bool) {
	if a[0].kind == kindLang {
		return newString(a[0].aux), true
	}
	return newString(""), a[0].literal()
}

// datatype is DATATYPE (section 17.4.2.7).
func datatype(_ *execution, a []value) (value, bool) {
	return value{kind: kindIRI, text: a[0].datatype()}, a[0].literal()
}

// langMatches is LANGMATCHES (section 17.4.3.13; RFC 4647, section 3.3.1).
func langMatches(_ *execution, a []value) (value, bool) {
	if a[0].kind != kindString || a[1].kind != kindString {
		return value{}, false
	}
	return newBoolean(LangMatches(a[0].text, a[1].text)), true
}

// toIRI is IRI (section 17.4.2.8): relative IRIs are those of the query.
func toIRI(x *execution, a []value) (value, bool) {
	if a[0].kind == kindIRI {
		return a[0], true
	}
	if a[0].kind != kindString {
		return value{}, false
	}
	iri, err := graph.ResolveIRI(x.baseIRI, a[0].text)
	if err != nil || graph.CheckIRI(iri) != nil {
		return value{}, false
	}
	return value{kind: kindIRI, text: iri}, true
}

// newBlankNode is BNODE (section 17.4.2.9): a new node, or the one of a label
// within a solution.
func newBlankNode(x *execution, a []value) (value, bool) {
	if len(a) == 0 {
		return x.freshBlank(), true
	}
	if a[0].kind != kindString {
		return value{}, false
	}
	v, ok := x.labels[a[0].text]
	if !ok {
		v = x.freshBlank()
		x.labels[a[0].text] = v
	}
	return v, true
}

// freshBlank returns a node that neither the graph nor the query has: labels
// of parsed files begin with other letters.
func (x *execution) freshBlank() value {
	for {
		x.blanks++
		label := fmt.Sprintf("q%d", x.blanks)
		if x.g.Dictionary().Lookup(graph.NewBlank(label)) == 0 {
			return value{kind: kindBlank, text: label}
		}
	}
}

// strLang is STRLANG (section 17.4.2.11).
func strLang(_ *execution, a []value) (value, bool) {
	if a[0].kind != kindString || a[1].kind != kindString || !isLanguageTag(a[1].text) {
		return value{}, false
	}
	return value{kind: kindLang, text: a[0].text, aux: a[1].text}, true
}

func isLanguageTag(s string) bool {
	for i, part := range strings.Split(s, "-") {
		if part == "" {
			return false
		}
		for j := range len(part) {
			if !isLetter(part[j]) && (i == 0 || !isDigit(part[j])) {
				return false
			}
		}
	}
	return true
}

// strDatatype is STRDT (section 17.4.2.10).
func strDatatype(_ *execution, a []value) (value, bool) {
	if a[0].kind != kindString || a[1].kind != kindIRI || a[1].text == graph.RDFLangString {
		return value{}, false
	}
	return valueOf(graph.NewTyped(a[0].text, a[1].text), 0), true
}

// strLen is STRLEN (section 17.4.3.2).
func strLen(_ *execution, a []value) (value, bool) {
	return newInteger(int64(utf8.RuneCountInString(a[0].text))), a[0].stringy()
}

// substr is SUBSTR (section 17.4.3.3): characters count from 1, and positions
// are rounded as fn:substring rounds them.
func substr(_ *execution, a []value) (value, bool) {
	if !a[0].stringy() || !a[1].numeric() || len(a) == 3 && !a[2].numeric() {
		return value{}, false
	}
	from := math.Floor(a[1].float() + 0.5)
	to := math.Inf(1)
	if len(a) == 3 {
		to = from + math.Floor(a[2].float()+0.5)
	}
	start, end, n := len(a[0].text), len(a[0].text), 0.0
	for i := range a[0].text {
		n++
		if n >= from && i < start {
			start = i
		}
		if n >= to {
			end = i
			break
		}
	}
	if math.IsNaN(from) || math.IsNaN(to) || start >= end {
		return newLike("", a[0]), true
	}
	return newLike(a[0].text[start:end], a[0]), true
}

func mapString(f func(string) string) func(*execution, []value) (value, bool) {
	return func(_ *execution, a []value) (value, bool) { return newLike(f(a[0].text), a[0]), a[0].stringy() }
}

// encodeForURI is ENCODE_FOR_URI (section 17.4.3.11): all but the unreserved
// characters of RFC 3986 are percent-encoded.
func encodeForURI(_ *execution, a []value) (value, bool) {
	var b strings.Builder
	for i := range len(a[0].text) {
		c := a[0].text[i]
		if isLetter(c) || isDigit(c) || strings.IndexByte("-_.~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return newString(b.String()), a[0].stringy()
}

// concat is CONCAT (section 17.4.3.12): a language is kept if all agree on it.
func concat(x *execution, a []value) (value, bool) {
	size := 0
	for i := range a {
		if !a[i].stringy() {
			return value{}, false
		}
		size += len(a[i].text)
	}
	if !x.shortEnough(size) {
		return value{}, false
	}
	var b strings.Builder
	same := len(a) > 0
	for i := range a {
		b.WriteString(a[i].text)
		same = same && a[i].kind == kindLang && strings.EqualFold(a[i].aux, a[0].aux)
	}
	if same {
		return newLike(b.String(), a[0]), true
	}
	return newString(b.String()), true
}

// compatible tells whether two strings may be compared (section 17.4.3.1.2).
func compatible(a, b value) bool {
	return a.stringy() && (b.kind == kindString || b.kind == kindLang && a.kind == kindLang && strings.EqualFold(a.aux, b.aux))
}

func compareStrings(f func(s, t string) bool) func(*execution, []value) (value, bool) {
	return func(_ *execution, a []value) (value, bool) {
		return newBoolean(f(a[0].text, a[1].text)), compatible(a[0], a[1])
	}
}

// strBefore and strAfter are STRBEFORE and STRAFTER (sections 17.4.3.9 and
// 17.4.3.10): without a match the result is a simple empty string.
func strBefore(_ *execution, a []value) (value, bool) {
	before, _, found := strings.Cut(a[0].text, a[1].text)
	if !found {
		return newString(""), compatible(a[0], a[1])
	}
	return newLike(before, a[0]), compatible(a[0], a[1])
}

func strAfter(_ *execution, a []value) (value, bool) {
	_, after, found := strings.Cut(a[0].text, a[1].text)
	if !found {
		return newString(""), compatible(a[0], a[1])
	}
	return newLike(after, a[0]), compatible(a[0], a[1])
}

// abs is ABS (section 17.4.4.1).
func abs(_ *execution, a []value) (value, bool) {
	switch v := a[0]; v.kind {
	case kindInteger:
		return newBigInt(new(big.Int).Abs(v.bigInt())), true
	case kindDecimal:
		return newDecimal(new(big.Rat).Abs(v.rat())), true
	case kindFloat:
		return newFloat(math.Abs(v.f)), true
	case kindDouble:
		return newDouble(math.Abs(v.f)), true
	}
	return value{}, false
}

// round makes a function of one for exact numbers and one for floating
// point (section 17.4.4). The type stays; integers are whole already.
func round(exact func(*big.Rat) *big.Rat, inexact func(float64) float64) func(*execution, []value) (value, bool) {
	return func(_ *execution, a []value) (value, bool) {
		switch v := a[0]; v.kind {
		case kindInteger:
			return newBigInt(exact(v.rat()).Num()), true
		case kindDecimal:
			whole := newDecimal(exact(v.rat()))
			whole.text = whole.rat().Num().String() // a whole number without a point
			return whole, true
		case kindFloat:
			return newFloat(inexact(v.f)), true
		case kindDouble:
			return newDouble(inexact(v.f)), true
		}
		return value{}, false
	}
}

func floor(r *big.Rat) *big.Rat {
	return new(big.Rat).SetInt(new(big.Int).Div(r.Num(), r.Denom())) // Euclidean: rounds down, as denominators are positive
}

func ceil(r *big.Rat) *big.Rat {
	return new(big.Rat).Neg(floor(new(big.Rat).Neg(r)))
}

// roundHalfUp rounds to the nearest, and halves towards positive infinity.
func roundHalfUp(r *big.Rat) *big.Rat { return floor(new(big.Rat).Add(r, big.NewRat(1, 2))) }

// part makes a function of a dateTime, which dates have too.
func part(f func(*moment) value) func(*execution, []value) (value, bool) {
	return func(_ *execution, a []value) (value, bool) {
		m, ok := a[0].x.(*moment)
		if !ok {
			return value{}, false
		}
		return f(m), true
	}
}

// clockPart makes a function of a dateTime only.
func clockPart(f func(*moment) value) func(*execution, []value) (value, bool) {
	return func(_ *execution, a []value) (value, bool) {
		if a[0].kind != kindDateTime {
			return value{}, false
		}
		return f(a[0].x.(*moment)), true
	}
}

// digest makes a hash function (section 17.4.6).
func digest(sum func([]byte) []byte) func(*execution, []value) (value, bool) {
	return func(_ *execution, a []value) (value, bool) {
		return newString(hex.EncodeToString(sum([]byte(a[0].text)))), a[0].kind == kindString
	}
}

// next returns the next pseudo-random number (SplitMix64). The seed is given
// by the caller, so that the same query gives the same result if it is meant to.
func (x *execution) next() uint64 {
	x.random += 0x9E3779B97F4A7C15
	z := x.random
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// uuid returns a version 4 UUID (RFC 9562, section 5.4).
func (x *execution) uuid() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], x.next())
	binary.BigEndian.PutUint64(b[8:], x.next())
	b[6], b[8] = b[6]&0x0F|0x40, b[8]&0x3F|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
}
