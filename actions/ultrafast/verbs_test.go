package main

import (
	"iter"
	"reflect"
	"slices"
	"strings"

	cleanroom "github.com/ultrafast-ci/ultrafast/actions/cleanroom-test/door"
	deploy "github.com/ultrafast-ci/ultrafast/actions/deploy/door"
	generate "github.com/ultrafast-ci/ultrafast/actions/generate/door"
	market "github.com/ultrafast-ci/ultrafast/actions/market/door"
	"github.com/ultrafast-ci/ultrafast/actions/ultrafast/door"
	validate "github.com/ultrafast-ci/ultrafast/actions/validate/door"

	"github.com/ultrafast-ci/ultrafast/internal/app"
)

// doors are all binaries by name; each call makes a new command line.
var doors = map[string]func() app.Door{
	"ultrafast": door.New, "ultrafast-market": market.New, "ultrafast-generate": generate.New,
	"ultrafast-cleanroom-test": cleanroom.New, "ultrafast-validate": validate.New, "ultrafast-deploy": deploy.New,
	"ggen": named("ggen"), "cleanroom": named("cleanroom"),
}

// verb is a command that does something.
type verb struct {
	words []string
	flags []param
	args  []param
	help  string
	node  reflect.Type
}

func (v verb) String() string { return strings.Join(v.words, " ") }

// param is a flag or an argument.
type param struct {
	name     string
	kind     reflect.Type
	path     bool // type:"existingfile" and the like
	required bool
	enum     string
	aliases  []string
}

// verbsOf returns the verbs of a command line, and the flags that all of them have.
func verbsOf(d app.Door) (verbs []verb, globals []param) {
	root := reflect.TypeOf(d.CLI).Elem()
	var walk func(t reflect.Type, words []string, help string)
	walk = func(t reflect.Type, words []string, help string) {
		v := verb{words: words, help: help, node: t}
		leaf := true
		for f := range paramFields(t) {
			name := f.Tag.Get("name")
			if name == "" {
				name = kebab(f.Name)
			}
			if _, ok := f.Tag.Lookup("cmd"); ok {
				leaf = false
				walk(f.Type, append(slices.Clone(words), name), f.Tag.Get("help"))
				continue
			}
			_, required := f.Tag.Lookup("required")
			p := param{name: name, kind: f.Type, path: strings.HasPrefix(f.Tag.Get("type"), "existing"), enum: f.Tag.Get("enum"), required: required}
			if aliases := f.Tag.Get("aliases"); aliases != "" {
				p.aliases = strings.Split(aliases, ",")
			}
			_, optional := f.Tag.Lookup("optional")
			if _, ok := f.Tag.Lookup("arg"); ok {
				p.required = !optional
				v.args = append(v.args, p)
				continue
			}
			if t == root {
				globals = append(globals, p)
				continue
			}
			v.flags = append(v.flags, p)
		}
		if leaf {
			verbs = append(verbs, v)
		}
	}
	walk(root, nil, "")
	return verbs, globals
}

// paramFields are the fields of t that kong sees; embedded structs count as their fields.
func paramFields(t reflect.Type) iter.Seq[reflect.StructField] {
	return func(yield func(reflect.StructField) bool) {
		for _, f := range reflect.VisibleFields(t) {
			if f.IsExported() && !f.Anonymous && f.Tag.Get("kong") != "-" && !yield(f) {
				return
			}
		}
	}
}

// kebab is the name that kong gives to a field.
func kebab(name string) string {
	if strings.ToUpper(name) == name {
		return strings.ToLower(name)
	}
	var b strings.Builder
	for i, r := range name {
		if r >= 'A' && r <= 'Z' {
			if i > 0 {
				b.WriteByte('-')
			}
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// referenceVerbs are the flags of the reference's verbs, by all their words.
func referenceVerbs() map[string][]param {
	out := map[string][]param{}
	for _, name := range []string{"ggen", "cleanroom"} {
		verbs, _ := verbsOf(doors[name]())
		for _, v := range verbs {
			out[name+" "+v.String()] = v.flags
		}
	}
	return out
}
