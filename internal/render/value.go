package render

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
)

// A template value is one of nil, bool, int64, uint64 (only above
// [math.MaxInt64]), float64 (finite), string, []any and *[Map]. [From] makes
// one of an ordinary Go value, [ParseJSON] of a JSON text. Values are never
// changed by a render, so one may be shared by any number of them.

// MapOrder says in which order the keys of a map are visited, printed and encoded.
type MapOrder int

const (
	// InsertionOrder keeps the order in which keys were first set.
	InsertionOrder MapOrder = iota
	// SortedOrder sorts keys by their bytes.
	SortedOrder
)

// Map is a map from names to values that remembers the order of its keys. The
// zero value is not ready: use [NewMap]. It is safe for concurrent reads.
type Map struct {
	keys  []string
	vals  []any
	index map[string]int // only above smallMap keys
	row   bool
}

const smallMap = 8 // up to this many keys a scan is faster than a hash

// NewMap returns an empty map.
func NewMap() *Map { return &Map{} }

// NewRow returns an empty map for one row of a query result. Its lookups take a
// variable with or without its question mark, so row["?name"] and row.name
// are the same cell, whichever of both was set.
func NewRow() *Map { return &Map{row: true} }

// Set stores v under key; a key that is set again keeps its place. Of Go's
// other numeric types and []string Set makes template values; everything else
// has to be one already (see [From]).
func (m *Map) Set(key string, v any) {
	v = shallow(v)
	if i := m.find(key); i >= 0 {
		m.vals[i] = v
		return
	}
	m.keys = append(m.keys, key)
	m.vals = append(m.vals, v)
	switch {
	case m.index != nil:
		m.index[key] = len(m.keys) - 1
	case len(m.keys) > smallMap:
		m.index = make(map[string]int, 2*len(m.keys))
		for i, k := range m.keys {
			m.index[k] = i
		}
	}
}

// Get returns the value under key and whether there is one.
func (m *Map) Get(key string) (any, bool) {
	if m == nil {
		return nil, false
	}
	i := m.find(key)
	if i < 0 && m.row {
		if len(key) > 0 && key[0] == '?' {
			i = m.find(key[1:])
		} else {
			i = m.find("?" + key)
		}
	}
	if i < 0 {
		return nil, false
	}
	return m.vals[i], true
}

func (m *Map) find(key string) int {
	if m.index != nil {
		if i, ok := m.index[key]; ok {
			return i
		}
		return -1
	}
	for i, k := range m.keys {
		if k == key {
			return i
		}
	}
	return -1
}

// Len returns the number of keys.
func (m *Map) Len() int {
	if m == nil {
		return 0
	}
	return len(m.keys)
}

// At returns the i-th key and its value in insertion order; i is below Len.
func (m *Map) At(i int) (string, any) { return m.keys[i], m.vals[i] }

// Keys returns the keys in the given order, in a slice of their own.
func (m *Map) Keys(order MapOrder) []string {
	if m == nil {
		return nil
	}
	keys := slices.Clone(m.keys)
	if order == SortedOrder {
		sort.Strings(keys)
	}
	return keys
}

// Clone returns a map with the same keys and values; the values are shared.
func (m *Map) Clone() *Map {
	if m == nil {
		return NewMap()
	}
	c := &Map{row: m.row}
	for i, k := range m.keys {
		c.Set(k, m.vals[i])
	}
	return c
}

// UnmarshalJSON reads a JSON object, keeping the order of its keys.
func (m *Map) UnmarshalJSON(data []byte) error {
	v, err := ParseJSON(data)
	if err != nil {
		return err
	}
	o, ok := v.(*Map)
	if !ok {
		return fmt.Errorf("a JSON object is needed, not %s", KindOf(v))
	}
	*m = *o
	return nil
}

// MarshalJSON writes the map as a JSON object in insertion order.
func (m *Map) MarshalJSON() ([]byte, error) {
	return AppendJSON(nil, m, JSONOptions{})
}

// KindOf names the kind of a template value as it appears in messages.
func KindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "a bool"
	case int64, uint64, float64:
		return "a number"
	case string:
		return "a string"
	case []any:
		return "an array"
	case *Map:
		return "a map"
	default:
		return fmt.Sprintf("a Go %T", v)
	}
}

func shallow(v any) any {
	switch v := v.(type) {
	case nil, bool, int64, float64, string, []any, *Map:
		return v
	case int:
		return int64(v)
	case int32:
		return int64(v)
	case uint64:
		return unsigned(v)
	case uint:
		return unsigned(uint64(v))
	case uint32:
		return int64(v)
	case float32:
		return float64(v)
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return list
	default:
		return v
	}
}

func unsigned(v uint64) any {
	if v <= math.MaxInt64 {
		return int64(v)
	}
	return v
}

// From makes a template value of v: of nil, bools, numbers, strings and
// [json.Number], and of slices and string-keyed maps of these. Keys of a Go map
// are taken in sorted order; infinities and NaN become null. Other types are an error.
func From(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, string, int64:
		return v, nil
	case int, int32, uint, uint32, uint64, []string:
		return shallow(v), nil
	case int8:
		return int64(v), nil
	case int16:
		return int64(v), nil
	case uint8:
		return int64(v), nil
	case uint16:
		return int64(v), nil
	case float32:
		return From(float64(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, nil
		}
		return v, nil
	case json.Number:
		return parseNumber(string(v))
	case *Map:
		return fromMap(v)
	case []any:
		return fromSlice(v)
	case []map[string]any:
		return fromSlice(v)
	case map[string]any:
		return fromGoMap(v)
	case map[string]string:
		return fromGoMap(v)
	default:
		return nil, fmt.Errorf("a Go %T is not a template value", v)
	}
}

func fromMap(m *Map) (any, error) {
	out := &Map{row: m.row}
	for i, k := range m.keys {
		v, err := From(m.vals[i])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		out.Set(k, v)
	}
	return out, nil
}

func fromSlice[T any](list []T) (any, error) {
	out := make([]any, len(list))
	for i, item := range list {
		v, err := From(item)
		if err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
		out[i] = v
	}
	return out, nil
}

func fromGoMap[T any](m map[string]T) (any, error) {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	out := NewMap()
	for _, k := range keys {
		v, err := From(m[k])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
		out.Set(k, v)
	}
	return out, nil
}
