package gotmpl

import (
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// maxListed bounds the bytes of a text that becomes a list of its parts, each of
// which takes more room than its bytes.
const maxListed = 8 << 20

// shallow are functions that look at no more than the top of a value, so a large
// context may be handed to them for nothing.
var shallow = setOf("get hasKey set unset list tuple dict default coalesce ternary empty first mustFirst last mustLast " +
	"kindOf kindIs typeOf typeIs typeIsLike dig all any pick omit pluck")

// listed are functions that make a list as long as a list that they are given.
var listed = setOf("append mustAppend push mustPush prepend mustPrepend concat rest mustRest initial mustInitial slice mustSlice " +
	"reverse mustReverse chunk mustChunk keys values compact mustCompact")

// parts are functions that make a list of parts of a text.
var parts = setOf("split splitList splitn regexFindAll mustRegexFindAll regexSplit mustRegexSplit")

// paired compare every part of a list with every other.
var paired = setOf("uniq mustUniq without mustWithout")

func setOf(names string) map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Fields(names) {
		set[name] = true
	}
	return set
}

// guard returns f with its work and its result counted. A bound that is reached is
// a panic, which text/template makes an error of: most functions return none.
func (r *run) guard(name string, f any) any {
	inner := reflect.ValueOf(f)
	call := inner.Call
	if inner.Type().IsVariadic() {
		call = inner.CallSlice
	}
	return reflect.MakeFunc(inner.Type(), func(args []reflect.Value) []reflect.Value {
		if err := r.before(name, args); err != nil {
			panic(err)
		}
		results := call(args)
		if err := r.after(name, results[0]); err != nil {
			panic(err)
		}
		return results
	}).Interface()
}

// before counts what a call will cost, and refuses what would make more than a
// render may.
func (r *run) before(name string, args []reflect.Value) error {
	switch {
	case shallow[name]:
		var keys int64
		for _, arg := range args {
			if arg.Kind() == reflect.String { // is hashed, or compared
				keys += int64(arg.Len())
			}
		}
		if err := r.spend(keys / 64); err != nil {
			return err
		}
		return r.make(64)
	case listed[name]:
		n := int64(4)
		for _, arg := range args {
			n += entries(arg, 1)
		}
		if err := r.spend(n); err != nil {
			return err
		}
		return r.make(16 * n)
	}
	var all size
	for _, arg := range args {
		s, err := r.measure(arg)
		if err != nil {
			return err
		}
		all.nodes, all.bytes = all.nodes+s.nodes, all.bytes+s.bytes
	}
	if paired[name] {
		return r.spend(all.nodes * all.nodes)
	}
	if parts[name] && all.bytes > maxListed {
		return limitError("the text to take apart has more than %d bytes", maxListed)
	}
	made, err := r.foreseen(name, args, all)
	if err != nil {
		return err
	}
	if made > r.limits.StringBytes-r.made {
		return r.make(made) // which says so
	}
	return nil
}

// entries counts what is in a list or map, and below it in the lists of a variadic argument.
func entries(v reflect.Value, depth int) int64 {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Map:
		return int64(v.Len())
	case reflect.Slice:
		n := int64(v.Len())
		if depth > 0 {
			for i := range v.Len() {
				n += entries(v.Index(i), depth-1)
			}
		}
		return n
	}
	return 1
}

// foreseen is how many bytes a call makes, for the functions of which a few bytes
// make many.
func (r *run) foreseen(name string, args []reflect.Value, all size) (int64, error) {
	switch name {
	case "repeat":
		return product(args[0].Int(), int64(args[1].Len())), nil
	case "indent", "nindent":
		return product(args[0].Int(), lineCount(args[1].String())), nil
	case "replace":
		found := int64(strings.Count(args[2].String(), args[0].String()))
		return product(found, int64(args[1].Len())), nil
	case "regexReplaceAllLiteral", "mustRegexReplaceAllLiteral":
		return product(int64(args[1].Len())+1, int64(args[2].Len())), nil
	case "wrapWith":
		return product(int64(args[2].Len())/max(args[0].Int(), 1)+1, int64(args[1].Len())), nil
	case "join":
		return product(all.nodes, int64(args[0].Len())), nil
	case "printf":
		return widths(args, r.limits.StringBytes), nil
	case "until":
		return 0, r.ranged(args[0].Int(), 1)
	case "untilStep":
		return 0, r.ranged(args[1].Int()-args[0].Int(), args[2].Int())
	case "seq":
		return 0, r.sequence(args[0])
	}
	return all.bytes, nil
}

func product(a, b int64) int64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	if a > 1<<62/b {
		return 1 << 62
	}
	return a * b
}

// ranged refuses a range of too many numbers.
func (r *run) ranged(distance, step int64) error {
	if step == 0 {
		return nil
	}
	n := distance / step
	if n > int64(r.limits.Range) || n < -int64(r.limits.Range) {
		return limitError("a range has more than %d numbers", r.limits.Range)
	}
	return r.make(24 * max(n, -n))
}

// sequence looks at the arguments of seq: last; first, last; or first, step, last.
func (r *run) sequence(args reflect.Value) error {
	numbers := make([]int64, args.Len())
	for i := range numbers {
		numbers[i] = args.Index(i).Int()
	}
	switch len(numbers) {
	case 1:
		return r.ranged(numbers[0], 1)
	case 2:
		return r.ranged(numbers[1]-numbers[0], 1)
	case 3:
		return r.ranged(numbers[2]-numbers[0], numbers[1])
	}
	return nil
}

var width = regexp.MustCompile(`%[^%a-zA-Z]*`)

// widths sums the widths and precisions of a format, those of arguments too, until
// they are more than enough.
func widths(args []reflect.Value, enough int64) int64 {
	sum := int64(0)
	for format := args[0].String(); sum <= enough; {
		at := width.FindStringIndex(format)
		if at == nil {
			break
		}
		verb := format[at[0]:at[1]]
		format = format[at[1]:]
		for _, digits := range strings.FieldsFunc(verb, func(r rune) bool { return r < '0' || r > '9' }) {
			n, err := strconv.ParseInt(digits, 10, 32)
			if err != nil {
				continue // fmt takes no such width either
			}
			sum += n
		}
		if !strings.Contains(verb, "*") {
			continue
		}
		for i := range args[1].Len() {
			if v := args[1].Index(i).Elem(); v.IsValid() && v.CanInt() {
				sum += min(max(v.Int(), -v.Int()), 1<<20) // what fmt takes at most is less
			}
		}
	}
	return sum
}

// after counts what a call made.
func (r *run) after(name string, result reflect.Value) error {
	if result.Kind() == reflect.Interface {
		result = result.Elem()
	}
	n := int64(0)
	switch result.Kind() {
	case reflect.String:
		n = int64(result.Len())
	case reflect.Slice, reflect.Map:
		if n = 64; !shallow[name] && !listed[name] {
			n += 16 * int64(result.Len())
		}
	}
	return r.make(n)
}
