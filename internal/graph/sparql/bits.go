package sparql

import "math/bits"

// slotSet is a set of slots.
type slotSet []uint64

func slotsOf(slots ...int) slotSet {
	var s slotSet
	for _, i := range slots {
		s.add(i)
	}
	return s
}

func (s *slotSet) add(i int) {
	if i < 0 {
		return
	}
	for len(*s) <= i/64 {
		*s = append(*s, 0)
	}
	(*s)[i/64] |= 1 << (i % 64)
}

func (s slotSet) has(i int) bool { return i >= 0 && i/64 < len(s) && s[i/64]&(1<<(i%64)) != 0 }

func (s slotSet) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

func (s slotSet) or(t slotSet) slotSet {
	out := make(slotSet, max(len(s), len(t)))
	copy(out, s)
	for i, w := range t {
		out[i] |= w
	}
	return out
}

// merge adds the slots of t to s in place.
func (s *slotSet) merge(t slotSet) {
	for len(*s) < len(t) {
		*s = append(*s, 0)
	}
	for i, w := range t {
		(*s)[i] |= w
	}
}

func (s slotSet) and(t slotSet) slotSet {
	out := make(slotSet, min(len(s), len(t)))
	for i := range out {
		out[i] = s[i] & t[i]
	}
	return out
}

func (s slotSet) minus(t slotSet) slotSet {
	out := append(slotSet(nil), s...)
	for i := range min(len(s), len(t)) {
		out[i] &^= t[i]
	}
	return out
}

func (s slotSet) meets(t slotSet) bool {
	for i := range min(len(s), len(t)) {
		if s[i]&t[i] != 0 {
			return true
		}
	}
	return false
}

// within tells whether every slot of s is in t.
func (s slotSet) within(t slotSet) bool {
	for i, w := range s {
		if i >= len(t) {
			if w != 0 {
				return false
			}
		} else if w&^t[i] != 0 {
			return false
		}
	}
	return true
}

// list returns the slots in ascending order.
func (s slotSet) list() []int {
	var out []int
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			out = append(out, i*64+bits.TrailingZeros64(w))
		}
	}
	return out
}
