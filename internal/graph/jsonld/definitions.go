package jsonld

import (
	"maps"
	"slices"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// This file settles what the library gets wrong about definitions of terms
// (JSON-LD 1.1 Processing Algorithms and API, section 4.2.2), before it sees them.

// define checks the definitions of all contexts of a value, and takes those away
// that have no effect.
func (d *document) define(v any) error {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			if err := d.define(item); err != nil {
				return err
			}
		}
	case map[string]any:
		if v["@type"] == "@json" {
			return nil // what looks like a context in it is data
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			var err error
			if key == "@context" {
				err = d.defineAll(v[key])
			} else {
				err = d.define(v[key])
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// clears tells whether a local context forgets those before it.
func clears(local any) bool {
	items, ok := local.([]any)
	return local == nil || ok && slices.Contains(items, nil)
}

// defineAll is define for a local context.
func (d *document) defineAll(local any) error {
	switch local := local.(type) {
	case []any:
		for _, item := range local {
			if err := d.defineAll(item); err != nil {
				return err
			}
		}
	case map[string]any:
		if _, ok := local[""]; ok {
			return fault.New(fault.Finding, "give the term a name", "%s: invalid term definition: the empty term is defined", d.opts.File)
		}
		if _, ok := local["@context"]; ok {
			return fault.New(fault.Finding, "remove it", "%s: keyword redefinition: a context defines @context", d.opts.File)
		}
		if m, ok := local["@type"].(map[string]any); ok && len(m) == 0 {
			return fault.New(fault.Finding, "say of @type that it is a set, or protected", "%s: keyword redefinition: the definition of @type is empty", d.opts.File)
		}
		for _, term := range slices.Sorted(maps.Keys(local)) {
			m, _ := local[term].(map[string]any)
			// A term that reverses what looks like a keyword is none.
			if reverse, ok := m["@reverse"].(string); ok && reserved.MatchString(reverse) {
				delete(local, term)
				continue
			}
			if scoped, ok := m["@context"]; ok {
				if _, container := m["@container"]; container && clears(scoped) {
					return fault.New(fault.Finding, "name the terms that the context is to take away",
						"%s: the term %.100q has a container and a context that starts anew, which are not read together", d.opts.File, term)
				}
				if err := d.defineAll(scoped); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
