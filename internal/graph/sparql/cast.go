package sparql

import (
	"math"
	"math/big"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/graph"
)

// call compiles a call of a function by IRI: the constructor functions of
// section 17.5. Any other function is an error whenever it is evaluated, which
// is what the standard asks for one that is not known.
func (pl *planner) call(s *scalar, e env) evaluator {
	name, ok := strings.CutPrefix(s.name, graph.XSD)
	if ok && len(s.args) == 1 {
		if f, ok := casts[name]; ok {
			return pl.x.strict(pl.compileAll(s.args, e), func(a []value) (value, bool) {
				if a[0].kind == kindIRI && name != "string" || a[0].kind == kindBlank {
					return value{}, false
				}
				return f(a[0], s.name)
			})
		}
	}
	return func() (value, bool) { return value{}, false }
}

// casts are the constructor functions, with those of the derived integer types.
var casts = func() map[string]func(v value, datatype string) (value, bool) {
	m := map[string]func(value, string) (value, bool){
		"string":   castString,
		"boolean":  castBoolean,
		"decimal":  castDecimal,
		"float":    castFloat,
		"double":   castFloat,
		"dateTime": castMoment,
		"date":     castMoment,
	}
	for name := range integerTypes {
		m[name] = castInteger
	}
	return m
}()

// parsed returns the literal with the given datatype if its form allows it.
func parsed(text, datatype string) (value, bool) {
	v := value{text: strings.Trim(text, " \t\r\n"), aux: datatype}
	v.typed()
	return v, v.kind != kindOther
}

func castString(v value, _ string) (value, bool) {
	switch v.kind {
	case kindFloat, kindDouble:
		return newString(xpathNumber(v)), true
	case kindDecimal:
		return newString(strings.TrimSuffix(formatDecimal(v.rat()), ".0")), true
	case kindInteger:
		return newString(v.bigInt().String()), true
	case kindBoolean:
		return newString(newBoolean(v.n != 0).text), true
	}
	s, ok := v.str()
	return newString(s), ok
}

// xpathNumber is the cast from xs:float and xs:double to xs:string (XPath
// Functions and Operators, section 17.1.2): plain digits within a range,
// scientific beyond.
func xpathNumber(v value) string {
	abs := math.Abs(v.f)
	bits := 64
	if v.kind == kindFloat {
		bits = 32
	}
	if v.f == 0 {
		if math.Signbit(v.f) {
			return "-0"
		}
		return "0"
	}
	if abs >= 1e-6 && abs < 1e6 {
		return formatPlain(v.f, bits)
	}
	return formatFloat(v.f, bits)
}

func castBoolean(v value, _ string) (value, bool) {
	switch {
	case v.numeric() || v.kind == kindBoolean:
		truth, _ := v.ebv()
		return newBoolean(truth), true
	case v.kind == kindString:
		b, ok := parsed(v.text, xsdBoolean)
		return newBoolean(b.n != 0), ok
	}
	return value{}, false
}

func castFloat(v value, datatype string) (value, bool) {
	f, ok := v.float(), v.numeric()
	switch v.kind {
	case kindBoolean:
		f, ok = float64(v.n), true
	case kindString:
		if v, ok = parsed(v.text, datatype); !ok {
			return value{}, false
		}
		f = v.f
	}
	if strings.HasSuffix(datatype, "#float") {
		return newFloat(f), ok
	}
	return newDouble(f), ok
}

func castDecimal(v value, datatype string) (value, bool) {
	r, ok := exactValue(v, datatype)
	if !ok {
		return value{}, false
	}
	return newDecimal(r), true
}

func castInteger(v value, datatype string) (value, bool) {
	if v.kind == kindString {
		n, ok := parsed(v.text, datatype)
		n.text = ""
		return n, ok
	}
	r, ok := exactValue(v, datatype)
	if !ok {
		return value{}, false
	}
	n := newBigInt(new(big.Int).Quo(r.Num(), r.Denom())) // towards zero
	n.aux = datatype
	return n, integerTypes[strings.TrimPrefix(datatype, graph.XSD)].allow(n)
}

// exactValue returns a number, boolean or numeral as a fraction.
func exactValue(v value, datatype string) (*big.Rat, bool) {
	switch v.kind {
	case kindInteger, kindDecimal:
		return v.rat(), true
	case kindFloat, kindDouble:
		if math.IsInf(v.f, 0) || math.IsNaN(v.f) {
			return nil, false
		}
		// The shortest decimal that names this number, not its binary expansion.
		bits := 64
		if v.kind == kindFloat {
			bits = 32
		}
		return new(big.Rat).SetString(formatPlain(v.f, bits))
	case kindBoolean:
		return new(big.Rat).SetInt64(v.n), true
	case kindString:
		d, ok := parsed(v.text, datatype)
		if !ok {
			return nil, false
		}
		return d.rat(), true
	}
	return nil, false
}

func castMoment(v value, datatype string) (value, bool) {
	switch {
	case v.kind == kindString:
		return parsed(v.text, datatype)
	case v.aux == datatype && (v.kind == kindDateTime || v.kind == kindDate):
		return v, true
	case v.kind == kindDateTime: // to a date
		date, _, _ := strings.Cut(v.text, "T")
		return parsed(date+v.x.(*moment).zone, datatype)
	case v.kind == kindDate: // to a dateTime
		zone := v.x.(*moment).zone
		return parsed(strings.TrimSuffix(v.text, zone)+"T00:00:00"+zone, datatype)
	}
	return value{}, false
}
