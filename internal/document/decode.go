package document

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Unmarshaler is implemented by a type that accepts more than one shape, for
// example one string or a list of them. Its errors should carry a place, as
// [Expected] gives it.
type Unmarshaler interface {
	UnmarshalDocument(n *Node) error
}

// Unknown is a key that the destination has no field for.
type Unknown struct {
	Key string
	// Section is the dotted path of the table that holds it; empty at the top.
	Section string
	Place   Place
	// Hint names the nearest known key, or lists the known ones.
	Hint string
}

// String returns "unknown key "x" in [section]".
func (u Unknown) String() string {
	if u.Section == "" {
		return fmt.Sprintf("unknown key %q", clip(u.Key))
	}
	return fmt.Sprintf("unknown key %q in [%s]", clip(u.Key), u.Section)
}

// Decode stores n in the value that v points to.
//
// Struct fields are matched by the tag `doc:"name"`; `doc:"name,required"`
// makes absence an error; a field without a tag is left alone. Destinations are
// string, bool, integers (range checked), floats, []T, map[string]T, *T, any
// (as [Node.Any]), Node, *Node, structs of these, and any [Unmarshaler]. What
// the document does not mention keeps its value, so defaults are set before. A
// null leaves its destination alone too.
//
// Errors are of kind fault.Usage, each with its place; up to [maxErrors] of
// them are joined in the order of the file. An unknown key is one.
func Decode(n *Node, v any) error {
	unknown, err := DecodeKnown(n, v)
	errs := make([]error, 0, len(unknown)+1)
	for _, u := range unknown[:min(len(unknown), maxErrors)] {
		errs = append(errs, failure(u.Place, u.Hint, "%s", u))
	}
	if err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

// DecodeKnown is [Decode], except that unknown keys are returned and not an error.
func DecodeKnown(n *Node, v any) ([]Unknown, error) {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return nil, fmt.Errorf("decode into %T: not a pointer", v)
	}
	if n == nil {
		return nil, errors.New("decode: no document")
	}
	d := decoder{}
	d.decode(n, target.Elem(), nil)
	switch len(d.errs) {
	case 0:
		return d.unknown, nil
	case 1:
		return d.unknown, d.errs[0]
	default:
		return d.unknown, errors.Join(d.errs...)
	}
}

// Expected returns the error for a value of the wrong shape.
func Expected(n *Node, what string) error {
	return failure(n.Place, "", "expected %s, found %s", what, n.describe())
}

// Errorf returns an error of kind fault.Usage about the place of n.
func Errorf(n *Node, hint, format string, args ...any) error {
	return failure(n.Place, hint, format, args...)
}

const maxErrors = 20

type decoder struct {
	unknown []Unknown
	errs    []error
}

func (d *decoder) fail(err error) {
	if len(d.errs) < maxErrors {
		d.errs = append(d.errs, err)
	}
}

var (
	nodeType        = reflect.TypeFor[Node]()
	unmarshalerType = reflect.TypeFor[Unmarshaler]()
)

func (d *decoder) decode(n *Node, v reflect.Value, path []string) {
	if v.Type() == nodeType {
		v.Set(reflect.ValueOf(*n))
		return
	}
	if v.Kind() == reflect.Pointer {
		d.pointer(n, v, path)
		return
	}
	if reflect.PointerTo(v.Type()).Implements(unmarshalerType) && v.CanAddr() {
		if err := v.Addr().Interface().(Unmarshaler).UnmarshalDocument(n); err != nil {
			if fault.KindOf(err) == fault.Internal {
				err = failure(n.Place, "", "%s: %w", where(path), err)
			}
			d.fail(err)
		}
		return
	}
	if n.Kind == Null && v.Kind() != reflect.Interface {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		d.slice(n, v, path)
	case reflect.Interface:
		if v.NumMethod() != 0 {
			d.fail(fmt.Errorf("decode into %s: not supported", v.Type()))
			return
		}
		if value := n.Any(); value != nil {
			v.Set(reflect.ValueOf(value))
		}
	default:
		d.scalar(n, v, path)
	}
}

func (d *decoder) pointer(n *Node, v reflect.Value, path []string) {
	switch {
	case v.Type().Elem() == nodeType:
		v.Set(reflect.ValueOf(n))
	case n.Kind == Null:
	default:
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		d.decode(n, v.Elem(), path)
	}
}

func (d *decoder) structure(n *Node, v reflect.Value, path []string) {
	if n.Kind != Map {
		d.mismatch(n, "a table", path)
		return
	}
	fields := fieldsOf(v.Type())
	for _, e := range n.Entries {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == e.Key })
		if i < 0 {
			d.unknown = append(d.unknown, Unknown{Key: e.Key, Section: strings.Join(path, "."), Place: e.Place, Hint: keyHint(e.Key, fields)})
			continue
		}
		d.decode(e.Value, v.Field(fields[i].index), appendPath(path, e.Key))
	}
	for _, f := range fields {
		if value := n.Get(f.name); f.required && (value == nil || value.Kind == Null) {
			d.fail(failure(n.Place, "add it", "key %q is missing%s", f.name, section(path)))
		}
	}
}

func (d *decoder) mapping(n *Node, v reflect.Value, path []string) {
	if n.Kind != Map {
		d.mismatch(n, "a table", path)
		return
	}
	if v.Type().Key().Kind() != reflect.String {
		d.fail(fmt.Errorf("decode into %s: keys must be strings", v.Type()))
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(n.Entries)))
	}
	for _, e := range n.Entries {
		value := reflect.New(v.Type().Elem()).Elem()
		d.decode(e.Value, value, appendPath(path, e.Key))
		v.SetMapIndex(reflect.ValueOf(e.Key).Convert(v.Type().Key()), value)
	}
}

func (d *decoder) slice(n *Node, v reflect.Value, path []string) {
	if n.Kind != Seq {
		d.mismatch(n, "a list", path)
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Items), len(n.Items))
	for i, item := range n.Items {
		d.decode(item, list.Index(i), path)
	}
	v.Set(list)
}

func (d *decoder) scalar(n *Node, v reflect.Value, path []string) {
	switch v.Kind() {
	case reflect.String:
		if n.Kind != String {
			d.mismatch(n, "a string", path)
			return
		}
		v.SetString(n.Text)
	case reflect.Bool:
		if n.Kind != Bool {
			d.mismatch(n, "a boolean", path)
			return
		}
		v.SetBool(n.Bool)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		if n.Kind != Int || v.OverflowInt(n.Int) {
			d.mismatch(n, "an integer"+limits(v.Type()), path)
			return
		}
		v.SetInt(n.Int)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if n.Kind != Int || n.Int < 0 || v.OverflowUint(uint64(n.Int)) {
			d.mismatch(n, "an integer of at least 0"+limits(v.Type()), path)
			return
		}
		v.SetUint(uint64(n.Int))
	case reflect.Float32, reflect.Float64:
		switch n.Kind {
		case Int:
			v.SetFloat(float64(n.Int))
		case Float:
			v.SetFloat(n.Float)
		default:
			d.mismatch(n, "a number", path)
		}
	default:
		d.fail(fmt.Errorf("decode into %s: not supported", v.Type()))
	}
}

func (d *decoder) mismatch(n *Node, want string, path []string) {
	d.fail(failure(n.Place, "", "%s: expected %s, found %s", where(path), want, n.describe()))
}

// limits tells the range of a narrow integer type.
func limits(t reflect.Type) string {
	if t.Bits() >= 64 {
		return ""
	}
	if t.Kind() >= reflect.Uint && t.Kind() <= reflect.Uint64 {
		return fmt.Sprintf(" and at most %d", uint64(math.MaxUint64)>>(64-t.Bits()))
	}
	return fmt.Sprintf(" within %d bits", t.Bits())
}

type field struct {
	name     string
	index    int
	required bool
}

func fieldsOf(t reflect.Type) []field {
	var fields []field
	for i := range t.NumField() {
		tag, ok := t.Field(i).Tag.Lookup("doc")
		if !ok || !t.Field(i).IsExported() {
			continue
		}
		name, option, _ := strings.Cut(tag, ",")
		fields = append(fields, field{name: name, index: i, required: option == "required"})
	}
	return fields
}

func keyHint(key string, fields []field) string {
	names := make([]string, 0, len(fields))
	for _, f := range fields {
		names = append(names, f.name)
	}
	if hint := fault.DidYouMean(key, names); hint != "" {
		return hint
	}
	if len(names) == 0 {
		return "the section has no keys"
	}
	return "known keys are " + strings.Join(names, ", ")
}

func where(path []string) string {
	if len(path) == 0 {
		return "document"
	}
	return clip(strings.Join(path, "."))
}

func section(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return " in [" + strings.Join(path, ".") + "]"
}

// appendPath copies: siblings must not share the array behind path.
func appendPath(path []string, key string) []string {
	return append(slices.Clip(path), clip(key))
}
