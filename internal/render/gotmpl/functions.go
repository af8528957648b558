package gotmpl

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// left are the functions of sprig that are not there, each with the reason.
var left = map[string]string{
	"env": "reads the environment", "expandenv": "reads the environment", "getHostByName": "asks the network",

	"ago": "reads the clock", "duration": "reads the clock", "durationRound": "reads the clock",
	"date_in_zone": "reads the zones of the machine", "date_modify": "reads the zones of the machine", "must_date_modify": "reads the zones of the machine",
	"dateModify": "reads the zones of the machine", "mustDateModify": "reads the zones of the machine", "htmlDateInZone": "reads the zones of the machine",
	"mustToDate": "reads the zones of the machine",

	"randAlphaNum": "is random", "randAlpha": "is random", "randAscii": "is random", "randNumeric": "is random", "randInt": "is random",
	"randBytes": "is random", "shuffle": "is random", "uuidv4": "is random",
	"bcrypt": "is random", "htpasswd": "is random", "genPrivateKey": "is random", "buildCustomCert": "makes secrets", "derivePassword": "makes secrets",
	"genCA": "is random", "genCAWithKey": "is random", "genSelfSignedCert": "is random", "genSelfSignedCertWithKey": "is random",
	"genSignedCert": "is random", "genSignedCertWithKey": "is random", "encryptAES": "is random", "decryptAES": "makes secrets",

	"osBase": "depends on the operating system", "osClean": "depends on the operating system", "osDir": "depends on the operating system",
	"osExt": "depends on the operating system", "osIsAbs": "depends on the operating system",
}

// builtins are the functions of text/template.
var builtins = map[string]any{
	"and": true, "or": true, "not": true, "len": true, "index": true, "slice": true, "eq": true, "ne": true, "lt": true, "le": true, "gt": true, "ge": true,
	"call": true, "html": true, "js": true, "print": true, "printf": true, "println": true, "urlquery": true,
}

// sprigs are the functions of sprig that are there, before they are bounded.
var sprigs = func() map[string]any {
	all := sprig.TxtFuncMap()
	maps.DeleteFunc(all, func(name string, _ any) bool { return left[name] != "" })
	maps.Copy(all, map[string]any{
		"keys": sortedKeys, "values": sortedValues,
		"date": date, "dateInZone": dateInZone, "htmlDate": func(t any) (string, error) { return date("2006-01-02", t) },
		"toDate": func(layout, text string) (time.Time, error) { return time.ParseInLocation(layout, text, time.UTC) },
		"print":  fmt.Sprint, "println": fmt.Sprintln, "printf": fmt.Sprintf,
		"html": template.HTMLEscaper, "js": template.JSEscaper, "urlquery": template.URLQueryEscaper,
	})
	return all
}()

// names are all functions by name; they are bound to a run when it begins.
var names = func() template.FuncMap {
	all := template.FuncMap{}
	for name, f := range sprigs {
		all[name] = f
	}
	maps.Copy(all, (&run{}).own())
	return all
}()

// own are the functions that need the run.
func (r *run) own() template.FuncMap {
	return template.FuncMap{
		stepName: r.step, callName: r.call, enterName: r.enter, leaveName: r.leave, printName: r.print, weighName: r.weigh,
		"include": r.include, "sparql": r.sparql, "now": r.now,
		"regexReplaceAll": r.regexReplaceAll, "mustRegexReplaceAll": r.regexReplaceAll,
	}
}

// functions binds the functions that the template uses to the run.
func (r *run) functions() template.FuncMap {
	all := r.own()
	for name := range r.t.used {
		if f := sprigs[name]; f != nil && all[name] == nil {
			all[name] = r.guard(name, f)
		}
	}
	return all
}

func hintFor(name string) string {
	if why := left[name]; why != "" {
		return "the function of sprig is left out, for it " + why
	}
	return fault.DidYouMean(name, slices.Concat(slices.Collect(maps.Keys(sprigs)), slices.Collect(maps.Keys(builtins)), []string{"include", "sparql", "now"}))
}

func (r *run) now() (time.Time, error) {
	if r.t.engine.options.Now.IsZero() {
		return time.Time{}, errors.New("no time was given to the render")
	}
	return r.t.engine.options.Now.UTC(), nil
}

func (r *run) sparql(query string) (any, error) {
	if r.t.engine.options.Query == nil {
		return nil, errors.New("there is no graph to ask")
	}
	value, err := r.t.engine.options.Query.Query(r.ctx, query)
	return plain(value), err
}

// date formats a time, or seconds since 1970, in UTC: the zone of a machine decides nothing.
func date(layout string, t any) (string, error) {
	switch t := t.(type) {
	case time.Time:
		return t.UTC().Format(layout), nil
	case *time.Time:
		if t != nil {
			return t.UTC().Format(layout), nil
		}
	case int:
		return time.Unix(int64(t), 0).UTC().Format(layout), nil
	case int64:
		return time.Unix(t, 0).UTC().Format(layout), nil
	}
	return "", fmt.Errorf("a time or seconds since 1970 are needed, not %T", t)
}

func dateInZone(layout string, t any, zone string) (string, error) {
	if zone != "UTC" && zone != "" && zone != "GMT" {
		return "", fmt.Errorf("zone %q: only UTC is known, for zones differ between machines", zone)
	}
	return date(layout, t)
}

// sortedKeys returns the keys of maps, each map's sorted; sprig leaves them to chance.
func sortedKeys(dicts ...map[string]any) []string {
	out := []string{}
	for _, d := range dicts {
		out = append(out, slices.Sorted(maps.Keys(d))...)
	}
	return out
}

// sortedValues returns the values of a map in the order of its keys.
func sortedValues(d map[string]any) []any {
	out := make([]any, 0, len(d))
	for _, key := range slices.Sorted(maps.Keys(d)) {
		out = append(out, d[key])
	}
	return out
}

// regexReplaceAll is sprig's, with a look at what each match will add.
func (r *run) regexReplaceAll(pattern, s, replacement string) (string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return "", err
	}
	if err := r.spend(int64(len(s)+len(pattern)) / 16); err != nil {
		return "", err
	}
	var out []byte
	last := 0
	if len(s) > maxListed {
		return "", limitError("the text to search has more than %d bytes", maxListed)
	}
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		if err := r.make(int64(len(replacement)) + int64(strings.Count(replacement, "$"))*int64(m[1]-m[0])); err != nil {
			return "", err
		}
		out = append(out, s[last:m[0]]...)
		out = re.ExpandString(out, replacement, s, m)
		last = m[1]
	}
	out = append(out, s[last:]...)
	return string(out), r.make(int64(len(out)))
}
