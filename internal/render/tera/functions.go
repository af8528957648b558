package tera

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// functionFunc is a function; like a filter it gives its errors no place.
type functionFunc func(r *run, a args) (any, error)

var functions = map[string]functionFunc{
	"range":      rangeOf,
	"now":        now,
	"throw":      throw,
	"get_random": getRandom,
	"get_env":    getEnv,
	// Of the dialect: queries and their rows.
	"sparql":        sparql,
	"local":         local,
	"sparql_first":  sparqlFirst,
	"sparql_values": sparqlValues,
	"sparql_column": sparqlColumn,
	"sparql_row":    sparqlRow,
	"sparql_count":  sparqlCount,
	"sparql_empty":  sparqlEmpty,
}

func rangeOf(r *run, a args) (any, error) {
	if _, ok := a.get("end"); !ok {
		return nil, fmt.Errorf("the argument %q is missing", "end")
	}
	from, err := a.count("start", 0)
	if err != nil {
		return nil, err
	}
	end, err := a.count("end", 0)
	if err != nil {
		return nil, err
	}
	by, err := a.count("step_by", 1)
	if err != nil {
		return nil, err
	}
	if from > end {
		return nil, fmt.Errorf("the start %d is above the end %d", from, end)
	}
	if by == 0 {
		return nil, fmt.Errorf("the argument %q cannot be zero", "step_by")
	}
	n := (end - from) / by
	if (end-from)%by != 0 {
		n++
	}
	if n > r.engine.limits.Range {
		return nil, limitError("range() of more than %d numbers", r.engine.limits.Range)
	}
	list := make([]any, n)
	for i := range list {
		list[i] = int64(from + i*by)
	}
	return list, nil
}

func now(r *run, a args) (any, error) {
	utc, err := a.boolean("utc", false)
	if err != nil {
		return nil, err
	}
	timestamp, err := a.boolean("timestamp", false)
	if err != nil {
		return nil, err
	}
	t := r.engine.options.Now
	if t.IsZero() {
		return nil, &hinted{errors.New("this render has no clock"), "hand the time in as a variable"}
	}
	if timestamp {
		return t.Unix(), nil
	}
	if utc {
		t = t.UTC()
	}
	return rfc3339(t), nil
}

// rfc3339 writes a time with no, three, six or nine digits of its fraction and
// a numeric zone.
func rfc3339(t time.Time) string {
	layout := "2006-01-02T15:04:05"
	switch ns := t.Nanosecond(); {
	case ns == 0:
	case ns%1e6 == 0:
		layout += ".000"
	case ns%1e3 == 0:
		layout += ".000000"
	default:
		layout += ".000000000"
	}
	return t.Format(layout + "-07:00")
}

func throw(_ *run, a args) (any, error) {
	message, err := a.needStr("message")
	if err != nil {
		return nil, err
	}
	return nil, errors.New(message)
}

func getRandom(r *run, a args) (any, error) {
	from, err := a.integer("start", 0)
	if err != nil {
		return nil, err
	}
	if _, ok := a.get("end"); !ok {
		return nil, fmt.Errorf("the argument %q is missing", "end")
	}
	end, err := a.integer("end", 0)
	if err != nil {
		return nil, err
	}
	if from >= end {
		return nil, fmt.Errorf("there is no integer from %d to below %d", from, end)
	}
	return from + int64(r.next()%uint64(end-from)), nil
}

// next is splitmix64 (Steele, Lea, Flood 2014): from one seed always the same sequence.
func (r *run) next() uint64 {
	r.random += 0x9e3779b97f4a7c15
	z := r.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func getEnv(r *run, a args) (any, error) {
	name, err := a.needStr("name")
	if err != nil {
		return nil, err
	}
	if r.engine.options.Env == nil {
		return nil, &hinted{errors.New("templates cannot read the environment here"), "hand the value in as a variable"}
	}
	if v, ok := r.engine.options.Env(name); ok {
		return v, nil
	}
	if fallback, ok := a.get("default"); ok {
		return fallback, nil
	}
	return nil, fmt.Errorf("the environment has no variable %q", name)
}

// sparql runs a query. With var it returns that variable of the first row, if
// there is one.
func sparql(r *run, a args) (any, error) {
	query, err := a.needStr("query")
	if err != nil {
		return nil, err
	}
	name, err := a.str("var", "")
	if err != nil {
		return nil, err
	}
	if r.engine.options.Query == nil {
		return nil, errors.New("this render has no graph")
	}
	v, err := r.engine.options.Query.Query(r.ctx, query)
	if err != nil || name == "" {
		return v, err
	}
	if rows, ok := v.([]any); ok && len(rows) > 0 {
		if cell, ok := cellOf(rows[0], name); ok {
			return cell, nil
		}
	}
	return v, nil
}

// local returns the part of an IRI behind the last #, else behind the last slash.
func local(_ *run, a args) (any, error) {
	iri, err := a.needStr("iri")
	if err != nil {
		return nil, err
	}
	if i := strings.LastIndexByte(iri, '#'); i >= 0 {
		return iri[i+1:], nil
	}
	return iri[strings.LastIndexByte(iri, '/')+1:], nil
}

// cellOf returns a column of a row, whose name may have a question mark on either side.
func cellOf(row any, column string) (any, bool) {
	m, ok := row.(*render.Map)
	if !ok {
		return nil, false
	}
	if v, ok := m.Get(column); ok {
		return v, true
	}
	if bare, ok := strings.CutPrefix(column, "?"); ok {
		return m.Get(bare)
	}
	return m.Get("?" + column)
}

// rows returns the argument rows or results, whichever there is.
func (a args) rows() (any, error) {
	rows, byRows := a.get("rows")
	results, byResults := a.get("results")
	switch {
	case byRows && byResults:
		return nil, fmt.Errorf("the arguments %q and %q mean the same, give one", "rows", "results")
	case byRows:
		return rows, nil
	case byResults:
		return results, nil
	}
	return nil, fmt.Errorf("the argument %q or %q is missing", "rows", "results")
}

// sparqlFirst returns a column of the first row, or the row; null if there is none.
func sparqlFirst(_ *run, a args) (any, error) {
	v, err := a.rows()
	if err != nil {
		return nil, err
	}
	column, err := a.str("column", "")
	if err != nil {
		return nil, err
	}
	rows, _ := v.([]any)
	if len(rows) == 0 {
		return nil, nil
	}
	if column == "" {
		return rows[0], nil
	}
	cell, _ := cellOf(rows[0], column)
	return cell, nil
}

// sparqlValues returns a column of all rows that have it.
func sparqlValues(r *run, a args) (any, error) {
	v, err := a.rows()
	if err != nil {
		return nil, err
	}
	column, err := a.needStr("column")
	if err != nil {
		return nil, err
	}
	rows, _ := v.([]any)
	out := make([]any, 0, len(rows))
	for _, row := range rows {
		if cell, ok := cellOf(row, column); ok {
			out = append(out, cell)
		}
	}
	return out, r.step(len(rows))
}

var sparqlColumn = sparqlValues

// sparqlRow returns a row by its index, or null.
func sparqlRow(_ *run, a args) (any, error) {
	v, err := a.rows()
	if err != nil {
		return nil, err
	}
	if _, ok := a.get("index"); !ok {
		return nil, fmt.Errorf("the argument %q is missing", "index")
	}
	i, err := a.count("index", 0)
	if err != nil {
		return nil, err
	}
	rows, _ := v.([]any)
	if i >= len(rows) {
		return nil, nil
	}
	return rows[i], nil
}

// sparqlCount returns the number of rows; the answer to an ASK counts as one.
func sparqlCount(_ *run, a args) (any, error) {
	v, err := a.rows()
	if err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case []any:
		return int64(len(v)), nil
	case bool:
		return int64(1), nil
	}
	return int64(0), nil
}

func sparqlEmpty(r *run, a args) (any, error) {
	n, err := sparqlCount(r, a)
	return n == int64(0), err
}

// subject is what a test looks at.
type subject struct {
	value   any
	defined bool
}

type testFunc func(r *run, s subject, args []any) (bool, error)

var tests = map[string]testFunc{
	"defined":       func(_ *run, s subject, args []any) (bool, error) { return s.defined, atMost(args, 0) },
	"undefined":     func(_ *run, s subject, args []any) (bool, error) { return !s.defined, atMost(args, 0) },
	"odd":           isOdd,
	"even":          func(r *run, s subject, args []any) (bool, error) { odd, err := isOdd(r, s, args); return !odd, err },
	"string":        kindTest(func(v any) bool { _, ok := v.(string); return ok }),
	"number":        kindTest(func(v any) bool { _, ok := toNumber(v); return ok }),
	"object":        kindTest(func(v any) bool { _, ok := v.(*render.Map); return ok }),
	"iterable":      kindTest(isIterable),
	"divisibleby":   isDivisible,
	"starting_with": stringTest(strings.HasPrefix),
	"ending_with":   stringTest(strings.HasSuffix),
	"containing":    isContaining,
	"matching":      isMatching,
}

func atMost(args []any, n int) error {
	if len(args) > n {
		return fmt.Errorf("takes at most %d arguments, not %d", n, len(args))
	}
	return nil
}

func (s subject) check(args []any, n int) error {
	if err := atMost(args, n); err != nil {
		return err
	}
	if !s.defined {
		return errors.New("the variable is not defined")
	}
	return nil
}

func kindTest(is func(any) bool) testFunc {
	return func(_ *run, s subject, args []any) (bool, error) {
		return is(s.value), s.check(args, 0)
	}
}

func isIterable(v any) bool {
	switch v.(type) {
	case []any, *render.Map:
		return true
	}
	return false
}

func isOdd(_ *run, s subject, args []any) (bool, error) {
	if err := s.check(args, 0); err != nil {
		return false, err
	}
	f, ok := toFloat(s.value)
	if !ok {
		return false, fmt.Errorf("a number is needed, this is %s", render.KindOf(s.value))
	}
	return mathFloat(opMod, f, 2) != 0, nil
}

func isDivisible(_ *run, s subject, args []any) (bool, error) {
	if err := s.check(args, 1); err != nil {
		return false, err
	}
	f, ok := toFloat(s.value)
	if !ok {
		return false, fmt.Errorf("a number is needed, this is %s", render.KindOf(s.value))
	}
	if len(args) == 0 {
		return false, errors.New("takes a number")
	}
	by, ok := toFloat(args[0])
	if !ok {
		return false, fmt.Errorf("takes a number, not %s", render.KindOf(args[0]))
	}
	return mathFloat(opMod, f, by) == 0, nil
}

func stringTest(holds func(s, part string) bool) testFunc {
	return func(_ *run, s subject, args []any) (bool, error) {
		value, part, err := twoStrings(s, args)
		return err == nil && holds(value, part), err
	}
}

func twoStrings(s subject, args []any) (value, part string, err error) {
	if err := s.check(args, 1); err != nil {
		return "", "", err
	}
	value, ok := s.value.(string)
	if !ok {
		return "", "", fmt.Errorf("a string is needed, this is %s", render.KindOf(s.value))
	}
	if len(args) > 0 {
		if part, ok = args[0].(string); ok {
			return value, part, nil
		}
	}
	return "", "", errors.New("takes a string")
}

func isContaining(r *run, s subject, args []any) (bool, error) {
	if err := s.check(args, 1); err != nil {
		return false, err
	}
	if len(args) == 0 {
		return false, errors.New("takes what to look for")
	}
	return r.containsValue(s.value, args[0])
}

func isMatching(r *run, s subject, args []any) (bool, error) {
	value, pattern, err := twoStrings(s, args)
	if err != nil {
		return false, err
	}
	re, err := r.regexps.get(pattern)
	if err != nil {
		return false, err
	}
	return re.MatchString(value), r.step(1 + len(value)/16)
}

// regexpCache keeps the patterns of one render.
type regexpCache map[string]*regexp.Regexp

const (
	maxPatterns      = 64
	maxPatternLength = 4096
)

func (c *regexpCache) get(pattern string) (*regexp.Regexp, error) {
	if re := (*c)[pattern]; re != nil {
		return re, nil
	}
	if len(pattern) > maxPatternLength {
		return nil, fmt.Errorf("the regular expression is longer than %d bytes", maxPatternLength)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	if wide, err := regexp.Compile(unicodeClasses(pattern)); err == nil {
		re = wide
	}
	if *c == nil || len(*c) >= maxPatterns {
		*c = regexpCache{}
	}
	(*c)[pattern] = re
	return re, nil
}

// The letters for classes of characters mean all of Unicode in Rust, and ASCII in
// Go. What Go's syntax cannot say stays ASCII: \b, and \W inside of brackets.
var (
	wideClass  = map[byte]string{'d': `\p{Nd}`, 's': spaceClass, 'w': `\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200c}\x{200d}`}
	spaceClass = `\s\v\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}`
)

// unicodeClasses writes \d, \s and \w, and their opposites outside of brackets, as
// classes of Unicode.
func unicodeClasses(pattern string) string {
	var b strings.Builder
	inside := false
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		if c != '\\' || i+1 == len(pattern) {
			inside = c == '[' || inside && c != ']'
			b.WriteByte(c)
			continue
		}
		i++
		letter := pattern[i]
		switch class, opposite := wideClass[letter], wideClass[letter|0x20]; {
		case class != "" && inside:
			b.WriteString(class)
		case class != "":
			b.WriteString("[" + class + "]")
		case opposite != "" && !inside:
			b.WriteString("[^" + opposite + "]")
		case letter == 'D':
			b.WriteString(`\P{Nd}`)
		default:
			b.WriteString(pattern[i-1 : i+1])
		}
	}
	return b.String()
}
