// Package difference says how two results of one phase differ: which fields of
// their claims, which artifacts, which files in these, and which lines of the files.
//
// It compares and explains, and [Merge] makes one text of two that changed apart; it
// never decides which of the two is right. Everything
// it reads is bounded, and all that it writes for people is free of characters that
// a terminal would act on.
package difference

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Side is one of the two results.
type Side struct {
	Entry *state.Entry
	Blobs state.Blobs
}

// Report is what differs. The zero value says that nothing does.
type Report struct {
	// Fields are those of the claim besides the artifacts, sorted by path.
	Fields []Field `json:"fields,omitempty"`
	// Artifacts are sorted by name.
	Artifacts []Artifact `json:"artifacts,omitempty"`
}

// Same reports whether nothing differs.
func (r *Report) Same() bool { return len(r.Fields) == 0 && len(r.Artifacts) == 0 }

// Change is how a part came to differ from the recorded result to the replayed one.
type Change string

// The changes.
const (
	Added   Change = "added"
	Removed Change = "removed"
	Changed Change = "changed"
)

// Field is a value that differs.
type Field struct {
	// Path is written "generate.files"; an element of a list that has a name is
	// written by it: "inputs[vars]".
	Path   string `json:"path"`
	Change Change `json:"change"`
	// Recorded is empty for what was added, Replayed for what was removed.
	Recorded string `json:"recorded,omitempty"`
	Replayed string `json:"replayed,omitempty"`
}

// Artifact is an artifact that differs, and how.
type Artifact struct {
	Name     string          `json:"name"`
	Change   Change          `json:"change"`
	Recorded *state.Artifact `json:"recorded,omitempty"`
	Replayed *state.Artifact `json:"replayed,omitempty"`
	// Files are those of a tree, a package or a layer of an image.
	Files []File `json:"files,omitempty"`
	// Fields are those of a JSON document.
	Fields []Field `json:"fields,omitempty"`
	// Diff is the unified difference of text.
	Diff string `json:"diff,omitempty"`
	// Note says what else there is to say.
	Note string `json:"note,omitempty"`
}

// File is a file that differs.
type File struct {
	Path   string `json:"path"`
	Change Change `json:"change"`
	// Recorded and Replayed say mode, owner, time, size and digest, those that differ.
	Recorded string `json:"recorded,omitempty"`
	Replayed string `json:"replayed,omitempty"`
	Diff     string `json:"diff,omitempty"`
}

// Compare returns how replayed differs from recorded. The place of both in a chain,
// Prev, is not compared.
func Compare(ctx context.Context, recorded, replayed Side) (*Report, error) {
	fields, err := claims(recorded.Entry, replayed.Entry)
	if err != nil {
		return nil, err
	}
	report := &Report{Fields: fields}
	byName := func(e *state.Entry) map[string]state.Artifact {
		m := make(map[string]state.Artifact, len(e.Artifacts))
		for _, a := range e.Artifacts {
			m[a.Name] = a
		}
		return m
	}
	was, is := byName(recorded.Entry), byName(replayed.Entry)
	left := &budget{files: maxDiffs, bytes: maxDiffBytes}
	for _, name := range names(was, is) {
		a, before := was[name]
		b, after := is[name]
		d := Artifact{Name: name, Change: change(before, after)}
		if before {
			d.Recorded = &a
		}
		if after {
			d.Replayed = &b
		}
		switch {
		case before && after && a == b:
			continue
		case before && after:
			if err := d.explain(ctx, recorded.Blobs, replayed.Blobs, left); err != nil {
				return nil, fmt.Errorf("compare artifact %q: %w", name, err)
			}
		}
		report.Artifacts = append(report.Artifacts, d)
	}
	return report, nil
}

// names returns the keys of both maps, sorted.
func names[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

func change(before, after bool) Change {
	switch {
	case !before:
		return Added
	case !after:
		return Removed
	default:
		return Changed
	}
}

// claims compares all but the artifacts.
func claims(recorded, replayed *state.Entry) ([]Field, error) {
	flat := func(e *state.Entry) (map[string]string, error) {
		bare := *e
		bare.Prev, bare.Artifacts = "", nil
		b, err := json.Marshal(&bare)
		if err != nil {
			return nil, err
		}
		return flatten(b)
	}
	was, err := flat(recorded)
	if err != nil {
		return nil, err
	}
	is, err := flat(replayed)
	if err != nil {
		return nil, err
	}
	return fields(was, is), nil
}

// Documents compares two JSON documents field by field.
func Documents(recorded, replayed []byte) ([]Field, error) {
	was, err := flatten(recorded)
	if err != nil {
		return nil, err
	}
	is, err := flatten(replayed)
	if err != nil {
		return nil, err
	}
	return fields(was, is), nil
}

func fields(was, is map[string]string) []Field {
	var out []Field
	for _, path := range names(was, is) {
		a, before := was[path]
		b, after := is[path]
		if a != b || before != after {
			out = append(out, Field{Path: path, Change: change(before, after), Recorded: a, Replayed: b})
		}
	}
	return out
}

// Facts compares values by name, as evidence has them.
func Facts(recorded, replayed map[string]string) []Field { return fields(recorded, replayed) }

// flatten returns every value of a JSON document by its path.
func flatten(document []byte) (map[string]string, error) {
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	out := map[string]string{}
	flattenInto(out, "", v)
	return out, nil
}

func flattenInto(out map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 && path != "" {
			out[path] = "{}"
		}
		for key, value := range v {
			flattenInto(out, strings.TrimPrefix(path+"."+key, "."), value)
		}
	case []any:
		if len(v) == 0 && path != "" {
			out[path] = "[]"
		}
		for i, value := range v {
			key := fmt.Sprint(i)
			if object, ok := value.(map[string]any); ok {
				if name, rest, ok := named(object); ok {
					key, value = name, rest
				}
			}
			flattenInto(out, path+"["+key+"]", value)
		}
	case nil:
		out[path] = "null"
	default:
		out[path] = fmt.Sprint(v)
	}
}

// named returns the name of an element of a list and what else it says; the value
// itself if that is one alone.
func named(object map[string]any) (name string, rest any, ok bool) {
	for _, key := range []string{"name", "id"} {
		if name, ok = object[key].(string); !ok || name == "" {
			continue
		}
		others := maps.Clone(object)
		delete(others, key)
		if len(others) == 1 {
			for _, only := range others {
				return name, only, true
			}
		}
		return name, others, true
	}
	return "", nil, false
}
