package doorgen

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Kind is what an input holds.
type Kind string

// Kinds of inputs.
const (
	Text     Kind = "text"
	Flag     Kind = "true or false"
	Number   Kind = "number"
	Duration Kind = "duration"
	Path     Kind = "path"
)

// Input is a flag as a CI system sees it.
type Input struct {
	// Name is that of the flag, without dashes before it.
	Name string
	// Help is the flag's help.
	Help string
	Kind Kind
	// List says that there may be several values, Map that they are KEY=VALUE; one
	// value per line.
	List, Map bool
	Required  bool
	// Enum are the values that are accepted; nil for any.
	Enum []string
	// Default is what the command line takes when nothing is given.
	Default string
}

// variable returns the environment variable in which the binary finds the input on
// every platform; an empty one counts as not set.
func (in Input) variable() string {
	return "INPUT_" + strings.ToUpper(strings.ReplaceAll(in.Name, "-", "_"))
}

// describe returns the help as a description of the input: a list says how it is
// written, a default is named, since it is not set.
func (in Input) describe() string {
	help := in.Help
	switch repeated := "; may be repeated"; {
	case strings.Contains(help, repeated):
		help = strings.Replace(help, repeated, "; one per line", 1)
	case in.List:
		help += " One per line."
	}
	if in.Default != "" {
		help += " Default: " + in.Default + "."
	}
	return help
}

// Inputs returns the flags of the verb and those of the binary that globals names,
// in the order of the struct: the verb's first. Every positional argument must have
// a flag as its twin, either of the same name or named by the tag twin; only the
// twin is an input, with the help of the positional.
func Inputs(cli any, verb string, globals []string) ([]Input, error) {
	root := reflect.TypeOf(cli)
	if root == nil || root.Kind() != reflect.Pointer || root.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("the command line is a %v, not a pointer to a struct", root)
	}
	command, err := findVerb(root.Elem(), verb)
	if err != nil {
		return nil, err
	}
	inputs, err := flagsOf(command)
	if err != nil {
		return nil, fmt.Errorf("verb %s: %w", verb, err)
	}
	all, err := flagsOf(root.Elem())
	if err != nil {
		return nil, err
	}
	for _, name := range globals {
		in, ok := find(all, name)
		if !ok {
			return nil, fmt.Errorf("the binary has no flag --%s", name)
		}
		if _, twice := find(inputs, name); twice {
			return nil, fmt.Errorf("verb %s: the flag --%s is also one of the binary", verb, name)
		}
		inputs = append(inputs, in)
	}
	return inputs, nil
}

// Description returns the help of the verb.
func Description(cli any, verb string) (string, error) {
	var help string
	err := eachField(reflect.TypeOf(cli).Elem(), func(f reflect.StructField) error {
		if _, ok := f.Tag.Lookup("cmd"); ok && nameOf(f) == verb {
			help = f.Tag.Get("help")
		}
		return nil
	})
	if err == nil && help == "" {
		err = fmt.Errorf("the verb %q has no help", verb)
	}
	return help, err
}

func findVerb(t reflect.Type, verb string) (reflect.Type, error) {
	var found reflect.Type
	err := eachField(t, func(f reflect.StructField) error {
		if _, ok := f.Tag.Lookup("cmd"); ok && nameOf(f) == verb {
			found = f.Type
		}
		return nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("there is no verb %q", verb)
	}
	return found, err
}

// eachField calls f for the fields of t; embedded structs count as their fields.
func eachField(t reflect.Type, f func(reflect.StructField) error) error {
	for i := range t.NumField() {
		field := t.Field(i)
		_, embed := field.Tag.Lookup("embed")
		if (field.Anonymous || embed) && field.Type.Kind() == reflect.Struct {
			if err := eachField(field.Type, f); err != nil {
				return err
			}
			continue
		}
		if !field.IsExported() || field.Tag.Get("kong") == "-" {
			continue // no flag
		}
		if err := f(field); err != nil {
			return err
		}
	}
	return nil
}

func flagsOf(t reflect.Type) ([]Input, error) {
	var inputs []Input
	twins := map[string]string{} // the flag's name → help of the positional
	err := eachField(t, func(f reflect.StructField) error {
		_, command := f.Tag.Lookup("cmd")
		_, hidden := f.Tag.Lookup("hidden")
		switch _, positional := f.Tag.Lookup("arg"); {
		case command || hidden:
			return nil
		case positional:
			twin := f.Tag.Get("twin")
			if twin == "" {
				twin = nameOf(f)
			}
			twins[twin] = f.Tag.Get("help")
			return nil
		}
		in, err := inputOf(f)
		inputs = append(inputs, in)
		return err
	})
	for twin, help := range twins {
		i := slices.IndexFunc(inputs, func(in Input) bool { return in.Name == twin })
		if i < 0 {
			return nil, fmt.Errorf("a positional argument has no flag --%s as its twin", twin)
		}
		inputs[i].Help = help
	}
	return inputs, err
}

func inputOf(f reflect.StructField) (Input, error) {
	in := Input{Name: nameOf(f), Default: f.Tag.Get("default")}
	_, in.Required = f.Tag.Lookup("required")
	if enum, ok := f.Tag.Lookup("enum"); ok {
		in.Enum = strings.Split(enum, ",")
	}
	in.Help = strings.NewReplacer("$$", "$", "${enum}", strings.Join(in.Enum, ", "), "${default}", in.Default).Replace(f.Tag.Get("help"))
	if in.Help == "" {
		return in, fmt.Errorf("the flag --%s has no help", in.Name)
	}
	t := f.Type
	switch t.Kind() {
	case reflect.Slice:
		in.List, t = true, t.Elem()
	case reflect.Map:
		in.List, in.Map, t = true, true, t.Elem()
	case reflect.Pointer: // of a flag whose zero is not its default
		t = t.Elem()
	}
	switch kind := t.Kind(); {
	case t == reflect.TypeFor[time.Duration]():
		in.Kind = Duration
	case kind == reflect.Bool:
		in.Kind = Flag
	case kind >= reflect.Int && kind <= reflect.Float64:
		in.Kind = Number
	case kind == reflect.String && isPath(f.Tag.Get("type")):
		in.Kind = Path
	case kind == reflect.String:
		in.Kind = Text
	default:
		return in, fmt.Errorf("the flag --%s is a %v, which no CI system can give", in.Name, f.Type)
	}
	return in, nil
}

func isPath(kind string) bool {
	return slices.Contains([]string{"path", "existingfile", "existingdir"}, kind)
}

// nameOf returns the name on the command line: the tag's, else the words of the
// field's name in lower case with dashes between them.
func nameOf(f reflect.StructField) string {
	if name := f.Tag.Get("name"); name != "" {
		return name
	}
	return dashed(f.Name)
}

func dashed(name string) string {
	runes := []rune(name)
	var out strings.Builder
	for i, r := range runes {
		afterLower := i > 0 && !unicode.IsUpper(runes[i-1])
		beforeLower := i > 0 && i+1 < len(runes) && unicode.IsLower(runes[i+1])
		if unicode.IsUpper(r) && (afterLower || beforeLower) {
			out.WriteByte('-')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}
