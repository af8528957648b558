package sparql

import (
	"cmp"
	"math"
	"math/big"
	"strings"
)

// equal is the operator = (section 17.3), and RDFterm-equal where no other
// applies (section 17.4.1.7). ok is false for a type error: the terms differ,
// but their values might not.
func equal(a, b *value) (same, ok bool) {
	if a.id != 0 && a.id == b.id && a.kind != kindDouble && a.kind != kindFloat {
		return true, true
	}
	if !a.literal() || !b.literal() {
		return a.kind == b.kind && a.text == b.text, true
	}
	switch {
	case (a.kind == kindLang) != (b.kind == kindLang):
		return false, true // no datatype has a value with a language
	case a.kind == kindOther || b.kind == kindOther:
		same = a.kind == b.kind && a.text == b.text && a.aux == b.aux
		return same, same
	case a.numeric() && b.numeric():
		order, comparable := compareNumbers(a, b)
		return comparable && order == 0, true
	case a.kind != b.kind:
		// The value spaces of two known types have nothing in common.
		return false, true
	}
	switch a.kind {
	case kindString:
		return a.text == b.text, true
	case kindLang:
		return a.text == b.text && strings.EqualFold(a.aux, b.aux), true
	case kindBoolean:
		return a.n == b.n, true
	}
	order, known := compareMoments(a.x.(*moment), b.x.(*moment))
	return order == 0, known
}

// less is the order behind < > <= >= (section 17.3). ok is false for a type
// error; ordered is false if both are numbers and one is NaN.
func less(a, b *value) (order int, ordered, ok bool) {
	switch {
	case a.numeric() && b.numeric():
		order, ordered = compareNumbers(a, b)
		return order, ordered, true
	case a.kind != b.kind:
		return 0, false, false
	}
	switch a.kind {
	case kindString:
		return strings.Compare(a.text, b.text), true, true
	case kindBoolean:
		return cmp.Compare(a.n, b.n), true, true
	case kindDateTime, kindDate:
		order, known := compareMoments(a.x.(*moment), b.x.(*moment))
		return order, known, known
	}
	return 0, false, false
}

// compareNumbers compares by value after promotion; comparable is false for NaN.
func compareNumbers(a, b *value) (order int, comparable bool) {
	kind := max(a.kind, b.kind)
	switch {
	case kind == kindInteger && a.x == nil && b.x == nil:
		return cmp.Compare(a.n, b.n), true
	case kind == kindInteger:
		return a.bigInt().Cmp(b.bigInt()), true
	case kind == kindDecimal:
		return a.rat().Cmp(b.rat()), true
	}
	x, y := a.float(), b.float()
	if kind == kindFloat {
		x, y = float64(float32(x)), float64(float32(y))
	}
	if math.IsNaN(x) || math.IsNaN(y) {
		return 0, false
	}
	return cmp.Compare(x, y), true
}

// orderClass sorts kinds of terms as ORDER BY does (section 15.1): unbound,
// blank nodes, IRIs, literals. Literals, whose order across types the standard
// leaves open, are sorted by type: strings, booleans, numbers, times, others.
func orderClass(k valueKind) int {
	switch k {
	case kindNone, kindBlank, kindIRI:
		return int(k)
	case kindString, kindLang:
		return 3
	case kindBoolean:
		return 4
	case kindDateTime:
		return 6
	case kindDate:
		return 7
	case kindOther:
		return 8
	}
	return 5
}

// compareForOrder is a total order of values that agrees with < wherever that
// is defined, and with nothing but the terms themselves elsewhere, so that
// results do not depend on the order of input.
func compareForOrder(a, b *value) int {
	if a.id != 0 && a.id == b.id {
		return 0
	}
	if c := cmp.Compare(orderClass(a.kind), orderClass(b.kind)); c != 0 {
		return c
	}
	switch class := orderClass(a.kind); class {
	case 0:
		return 0
	case 4:
		return cmp.Compare(a.n, b.n)
	case 5:
		return orderNumbers(a, b)
	case 6, 7:
		if c := a.x.(*moment).compare(b.x.(*moment)); c != 0 {
			return c
		}
		return strings.Compare(a.x.(*moment).zone, b.x.(*moment).zone)
	case 8:
		if c := strings.Compare(a.aux, b.aux); c != 0 {
			return c
		}
		return strings.Compare(a.text, b.text)
	default:
		if c := strings.Compare(a.text, b.text); c != 0 || class != 3 || a.kind == b.kind {
			if c != 0 || a.kind != kindLang {
				return c
			}
			return strings.Compare(a.aux, b.aux)
		}
		return cmp.Compare(a.kind, b.kind)
	}
}

// orderNumbers orders numbers exactly, without the rounding of promotion,
// which would make the order depend on what is compared with what. NaN is first.
func orderNumbers(a, b *value) int {
	exact := func(v *value) (*big.Rat, float64) {
		if v.kind < kindFloat {
			return v.rat(), 0
		}
		if math.IsNaN(v.f) || math.IsInf(v.f, 0) {
			return nil, v.f
		}
		return new(big.Rat).SetFloat64(v.f), 0
	}
	if a.kind == kindInteger && b.kind == kindInteger && a.x == nil && b.x == nil {
		return cmp.Compare(a.n, b.n)
	}
	if a.kind >= kindFloat && b.kind >= kindFloat {
		return cmp.Compare(a.f, b.f)
	}
	x, fx := exact(a)
	y, fy := exact(b)
	if x == nil || y == nil {
		return cmp.Compare(fx, fy) // an infinity or NaN against zero
	}
	return x.Cmp(y)
}
