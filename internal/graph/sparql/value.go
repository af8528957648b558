package sparql

import (
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// Datatypes of the operators of section 17.3.
const (
	xsdInteger         = graph.XSD + "integer"
	xsdDecimal         = graph.XSD + "decimal"
	xsdFloat           = graph.XSD + "float"
	xsdDouble          = graph.XSD + "double"
	xsdBoolean         = graph.XSD + "boolean"
	xsdDateTime        = graph.XSD + "dateTime"
	xsdDate            = graph.XSD + "date"
	xsdDayTimeDuration = graph.XSD + "dayTimeDuration"
)

// valueKind is the type of a value as operators see it. Numbers come in the
// order of their promotion (section 17.3): each can be turned into the next.
type valueKind uint8

const (
	kindNone valueKind = iota
	kindBlank
	kindIRI
	kindString // xsd:string
	kindLang   // rdf:langString
	kindBoolean
	kindInteger // xsd:integer and the types derived from it
	kindDecimal
	kindFloat
	kindDouble
	kindDateTime
	kindDate
	kindOther // a literal of a datatype that no operator knows, or of an ill-typed form
)

// value is a term with its value. Values of terms of the graph keep their
// number, so that what passes through unchanged is the very same term.
type value struct {
	kind valueKind
	ill  bool     // of a datatype that operators know, but not of its lexical space
	id   graph.ID // 0 if computed
	text string   // IRI, label or lexical form; empty for a number not yet written out
	aux  string   // language tag, or datatype of a literal other than xsd:string
	n    int64    // integer if x is nil; boolean as 0 and 1
	f    float64  // float and double
	x    any      // *big.Int, *big.Rat or *moment
}

func (v value) numeric() bool { return v.kind >= kindInteger && v.kind <= kindDouble }
func (v value) literal() bool { return v.kind >= kindString }
func (v value) stringy() bool { return v.kind == kindString || v.kind == kindLang }

// valueOf returns the value of a term.
func valueOf(t graph.Term, id graph.ID) value {
	v := value{id: id, text: t.Value}
	switch t.Kind {
	case graph.IRI:
		v.kind = kindIRI
	case graph.Blank:
		v.kind = kindBlank
	case graph.Literal:
		v.aux = t.Datatype
		switch {
		case t.Lang != "":
			v.kind, v.aux = kindLang, t.Lang
		case t.Datatype == graph.XSDString:
			v.kind = kindString
		default:
			v.typed()
		}
	}
	return v
}

// typed sets the value of a literal whose lexical form and datatype are known.
func (v *value) typed() {
	v.kind = kindOther
	name, ok := strings.CutPrefix(v.aux, graph.XSD)
	if !ok {
		return
	}
	known, good := true, false
	switch name {
	case "boolean":
		good = v.setBoolean()
	case "decimal":
		good = v.setDecimal()
	case "double", "float":
		good = v.setFloat(name == "float")
	case "dateTime":
		if m, ok := parseDateTime(v.text); ok {
			v.kind, v.x, good = kindDateTime, m, true
		}
	case "date":
		if m, ok := parseDate(v.text); ok {
			v.kind, v.x, good = kindDate, m, true
		}
	default:
		var bounds integerBounds
		if bounds, known = integerTypes[name]; known {
			good = v.setInteger() && bounds.allow(*v)
			if !good {
				v.kind = kindOther
			}
		}
	}
	v.ill = known && !good
}

func (v *value) setBoolean() bool {
	switch v.text {
	case "true", "1":
		v.n = 1
	case "false", "0":
	default:
		return false
	}
	v.kind = kindBoolean
	return true
}

// maxDigits bounds the numbers that are computed with; longer ones are ill-typed.
const maxDigits = 4096

func (v *value) setInteger() bool {
	text, plus := strings.CutPrefix(v.text, "+")
	if text == "" || len(text) > maxDigits || plus && !isDigit(text[0]) || strings.IndexByte(text, '_') >= 0 {
		return false
	}
	v.kind = kindInteger
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		v.n = n
		return true
	}
	n, ok := new(big.Int).SetString(text, 10)
	if ok {
		v.x = n
	} else {
		v.kind = kindOther
	}
	return ok
}

func (v *value) setDecimal() bool {
	text := v.text
	if text != "" && (text[0] == '+' || text[0] == '-') {
		text = text[1:]
	}
	digits, dots := 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case isDigit(c):
			digits++
		case c == '.':
			dots++
		default:
			return false
		}
	}
	if digits == 0 || digits > maxDigits || dots > 1 {
		return false
	}
	r, ok := new(big.Rat).SetString(v.text)
	if ok {
		v.kind, v.x = kindDecimal, r
	}
	return ok
}

func (v *value) setFloat(single bool) bool {
	v.kind = kindDouble
	bits := 64
	if single {
		v.kind, bits = kindFloat, 32
	}
	f, ok := parseFloat(v.text, bits)
	if !ok {
		v.kind = kindOther
	}
	v.f = f
	return ok
}

// parseFloat reads the lexical forms of xsd:double (XML Schema 1.1 Datatypes,
// section 3.3.5), which are fewer than those of Go.
func parseFloat(s string, bits int) (float64, bool) {
	switch s {
	case "INF", "+INF":
		return math.Inf(1), true
	case "-INF":
		return math.Inf(-1), true
	case "NaN":
		return math.NaN(), true
	}
	for i := range len(s) {
		if c := s[i]; !isDigit(c) && c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-' {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(s, bits)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// integerBounds are the value space of a type derived from xsd:integer.
type integerBounds struct{ min, max string }

// integerTypes are the types of XML Schema 1.1 Datatypes, section 3.4.13 on.
var integerTypes = map[string]integerBounds{
	"integer":            {},
	"nonPositiveInteger": {max: "0"},
	"negativeInteger":    {max: "-1"},
	"nonNegativeInteger": {min: "0"},
	"positiveInteger":    {min: "1"},
	"long":               {"-9223372036854775808", "9223372036854775807"},
	"int":                {"-2147483648", "2147483647"},
	"short":              {"-32768", "32767"},
	"byte":               {"-128", "127"},
	"unsignedLong":       {"0", "18446744073709551615"},
	"unsignedInt":        {"0", "4294967295"},
	"unsignedShort":      {"0", "65535"},
	"unsignedByte":       {"0", "255"},
}

func (b integerBounds) allow(v value) bool {
	if b.min != "" {
		if n, _ := new(big.Int).SetString(b.min, 10); v.bigInt().Cmp(n) < 0 {
			return false
		}
	}
	if b.max != "" {
		if n, _ := new(big.Int).SetString(b.max, 10); v.bigInt().Cmp(n) > 0 {
			return false
		}
	}
	return true
}

func (v value) bigInt() *big.Int {
	if n, ok := v.x.(*big.Int); ok {
		return n
	}
	return big.NewInt(v.n)
}

// rat returns an integer or decimal as a fraction.
func (v value) rat() *big.Rat {
	if r, ok := v.x.(*big.Rat); ok {
		return r
	}
	return new(big.Rat).SetInt(v.bigInt())
}

// float returns any number as a double.
func (v value) float() float64 {
	switch v.kind {
	case kindInteger:
		if v.x == nil {
			return float64(v.n)
		}
		f, _ := new(big.Float).SetInt(v.bigInt()).Float64()
		return f
	case kindDecimal:
		f, _ := v.rat().Float64()
		return f
	}
	return v.f
}

func newBoolean(b bool) value {
	if b {
		return value{kind: kindBoolean, text: "true", aux: xsdBoolean, n: 1}
	}
	return value{kind: kindBoolean, text: "false", aux: xsdBoolean}
}

func newInteger(n int64) value { return value{kind: kindInteger, aux: xsdInteger, n: n} }

func newBigInt(n *big.Int) value {
	if n.IsInt64() {
		return newInteger(n.Int64())
	}
	return value{kind: kindInteger, aux: xsdInteger, x: n}
}

func newDecimal(r *big.Rat) value { return value{kind: kindDecimal, aux: xsdDecimal, x: r} }

func newDouble(f float64) value { return value{kind: kindDouble, aux: xsdDouble, f: f} }

func newFloat(f float64) value {
	return value{kind: kindFloat, aux: xsdFloat, f: float64(float32(f))}
}

func newString(s string) value { return value{kind: kindString, text: s} }

// newLike returns a string with the language of v, if it has one.
func newLike(s string, v value) value {
	if v.kind == kindLang {
		return value{kind: kindLang, text: s, aux: v.aux}
	}
	return newString(s)
}

// lexical returns the lexical form; that of a computed number is the canonical
// one (XML Schema 1.1 Datatypes, appendix E).
func (v value) lexical() string {
	if v.text != "" {
		return v.text
	}
	switch v.kind {
	case kindInteger:
		if v.x == nil {
			return strconv.FormatInt(v.n, 10)
		}
		return v.bigInt().String()
	case kindDecimal:
		return formatDecimal(v.rat())
	case kindFloat:
		return formatFloat(v.f, 32)
	case kindDouble:
		return formatFloat(v.f, 64)
	}
	return ""
}

// formatDecimal writes a decimal with a point, as XML Schema 1.0 and the W3C's
// tests of division and AVG have it; version 1.1 leaves it out of whole numbers.
func formatDecimal(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String() + ".0"
	}
	digits, _ := r.FloatPrec()
	return r.FloatString(digits)
}

func formatFloat(f float64, bits int) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "INF"
	case math.IsInf(f, -1):
		return "-INF"
	}
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'E', -1, bits), "E")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exponent)
	return mantissa + "E" + strconv.Itoa(n)
}

// term returns the term of a value.
func (v value) term() graph.Term {
	switch v.kind {
	case kindNone:
		return graph.Term{}
	case kindIRI:
		return graph.NewIRI(v.text)
	case kindBlank:
		return graph.NewBlank(v.text)
	case kindString:
		return graph.NewString(v.text)
	case kindLang:
		return graph.NewTagged(v.text, v.aux)
	}
	return graph.NewTyped(v.lexical(), v.aux)
}

// datatype returns the datatype IRI of a literal.
func (v value) datatype() string {
	switch v.kind {
	case kindString:
		return graph.XSDString
	case kindLang:
		return graph.RDFLangString
	}
	return v.aux
}

// ebv is the effective boolean value (section 17.2.2); ok is false for a type
// error. A plain literal has one with a language and without.
func (v *value) ebv() (truth, ok bool) {
	switch v.kind {
	case kindBoolean:
		return v.n != 0, true
	case kindString, kindLang:
		return v.text != "", true
	case kindInteger:
		return v.x != nil || v.n != 0, true
	case kindDecimal:
		return v.rat().Sign() != 0, true
	case kindFloat, kindDouble:
		return v.f != 0 && !math.IsNaN(v.f), true
	case kindOther:
		// "any literal whose type is xsd:boolean or numeric is false if its
		// lexical form is not valid".
		if v.ill && v.aux != xsdDateTime && v.aux != xsdDate {
			return false, true
		}
	}
	return false, false
}

// formatPlain writes a float without exponent.
func formatPlain(f float64, bits int) string { return strconv.FormatFloat(f, 'f', -1, bits) }
