package generate

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ultrafast-ci/ultrafast/internal/document"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// split divides a template into the text between its "---" lines and the body.
// bodyLine is the line at which the body begins, from 1. Without a first line of
// "---" all is body. Blank lines between front matter and body belong to neither.
func split(source string) (front, body string, bodyLine int, found bool, err error) {
	source = strings.TrimPrefix(source, "\ufeff")
	first, rest, more := strings.Cut(source, "\n")
	if strings.TrimRight(first, " \t\r") != "---" {
		return "", source, 1, false, nil
	}
	line, start := 2, len(source)-len(rest)
	for at := start; more; line++ {
		var text string
		text, rest, more = strings.Cut(rest, "\n")
		if strings.TrimRight(text, " \t\r") == "---" {
			body, bodyLine = skipBlankLines(rest, line+1)
			return source[start:at], body, bodyLine, true, nil
		}
		at = len(source) - len(rest)
	}
	return "", "", 0, false, fmt.Errorf("front matter has no closing line of \"---\"")
}

func skipBlankLines(body string, line int) (string, int) {
	for {
		text, rest, more := strings.Cut(body, "\n")
		if !more || strings.Trim(text, " \t\r") != "" {
			return body, line
		}
		body, line = rest, line+1
	}
}

// header is front matter, decoded but not yet rendered: a nil node is a key that
// is not there.
type header struct {
	to, vars, rdf, inline, shape, prefixes, base, sparql, construct, determinism *document.Node
	force, unlessExists, forEach, when, skipEmpty, engine, from, matrix          *document.Node
	inject, prepend, appendTo, before, after, atLine, skipIf, idempotent, eof    *document.Node
	backup, freezePolicy, freezeSlots, shBefore, shAfter                         *document.Node
}

// fields are the keys of front matter (spec B1). Others are warned about, except
// those that begin with "x-", which are left to other tools.
func (h *header) fields() map[string]**document.Node {
	return map[string]**document.Node{
		"to": &h.to, "vars": &h.vars, "rdf": &h.rdf, "rdf_inline": &h.inline, "shape": &h.shape, "prefixes": &h.prefixes,
		"base": &h.base, "sparql": &h.sparql, "construct": &h.construct, "determinism": &h.determinism, "force": &h.force,
		"unless_exists": &h.unlessExists, "for_each": &h.forEach, "when": &h.when, "skip_empty": &h.skipEmpty, "engine": &h.engine,
		"from": &h.from, "matrix": &h.matrix, "inject": &h.inject, "prepend": &h.prepend, "append": &h.appendTo, "before": &h.before,
		"after": &h.after, "at_line": &h.atLine, "skip_if": &h.skipIf, "idempotent": &h.idempotent, "eof_last": &h.eof,
		"backup": &h.backup, "freeze_policy": &h.freezePolicy, "freeze_slots_dir": &h.freezeSlots,
		"sh_before": &h.shBefore, "sh": &h.shBefore, "sh_after": &h.shAfter,
	}
}

// foreign are keys of other tools that share the front matter: a test plan, a place
// in a lifecycle, the leave of an agent to write. They are told of, and are no mistake.
var foreign = []string{"cleanroom", "lifecycle", "unattended_write_eligible"}

var frontKeys = slices.Sorted(maps.Keys(new(header).fields()))

// parseHeader reads the YAML of front matter that begins at line 2 of file.
func parseHeader(file, front string) (header, []document.Entry, error) {
	node, err := document.ParseYAMLAt(file, 2, []byte(front))
	if err != nil {
		return header{}, nil, asFinding(err, "front matter")
	}
	if node.Kind == document.Null {
		return header{}, nil, nil
	}
	if node.Kind != document.Map {
		return header{}, nil, asFinding(document.Expected(node, "keys like `to:`"), "front matter")
	}
	var h header
	fields := h.fields()
	var unknown []document.Entry
	for _, e := range node.Entries {
		switch field := fields[e.Key]; {
		case field != nil && e.Value.Kind != document.Null:
			*field = e.Value
		case field == nil && !strings.HasPrefix(e.Key, "x-"):
			unknown = append(unknown, e)
		}
	}
	return h, unknown, nil
}

// asFinding makes what is wrong in a template a finding: it is what was checked.
func asFinding(err error, doing string) error {
	return fault.New(fault.Finding, fault.HintOf(err), "%s: %w", doing, err)
}

// unknownKey is the warning about a key that has no effect.
func unknownKey(e document.Entry) finding.Finding {
	fix := fault.DidYouMean(e.Key, frontKeys)
	if slices.Contains(foreign, e.Key) {
		return finding.Finding{
			Rule: "template-foreign-key", Severity: finding.Info, Where: e.Place,
			What: fmt.Sprintf("front matter key %q speaks to another tool; nothing here reads it", e.Key),
		}
	}
	if fix == "" {
		fix = "remove it, or begin its name with x- if another tool reads it"
	}
	return finding.Finding{
		Rule: "template-unknown-key", Severity: finding.Low, Where: e.Place,
		What: fmt.Sprintf("front matter key %q has no effect", e.Key), Fix: fix,
	}
}

// expander renders the strings of front matter with the variables known so far.
type expander func(n *document.Node) (string, error)

type query struct {
	name, text string
	node       *document.Node
	// cell asks for the first cell of the first row, or else otherwise.
	cell      bool
	otherwise any
}

type inlineGraph struct {
	text string
	node *document.Node
}

type prefix struct{ name, iri string }

// settings is front matter with its strings rendered, but for `to` and `when`,
// which may speak of query results and of the row.
type settings struct {
	rdf      []inlineGraph // paths
	inline   []inlineGraph
	shapes   []inlineGraph // paths
	prefixes []prefix
	base     string
	queries  []query
	forEach  string
	seed     uint64
	seeded   bool

	force, unlessExists, skipEmpty, backup bool

	from      string
	bind      []binding // of matrix
	construct []query
	freeze    Freeze
	slots     string
	edits     bool
}

func (h header) settings(expand expander) (settings, error) {
	var s settings
	var err error
	set := func(e error) {
		if err == nil {
			err = e
		}
	}
	var e error
	s.rdf, e = texts(h.rdf, expand, "a path, or a list of paths")
	set(e)
	s.inline, e = texts(h.inline, expand, "Turtle, or a list of it")
	set(e)
	s.shapes, e = texts(h.shape, expand, "a path, or a list of paths")
	set(e)
	s.prefixes, e = prefixes(h.prefixes, expand)
	set(e)
	s.base, e = text(h.base, expand, "an IRI")
	set(e)
	set(s.ask(&h, expand))
	set(s.keep(&h, expand))
	s.seed, s.seeded, e = seed(h.determinism, expand)
	set(e)
	s.force, e = boolean(h.force, expand)
	set(e)
	s.unlessExists, e = boolean(h.unlessExists, expand)
	set(e)
	s.skipEmpty, e = boolean(h.skipEmpty, expand)
	set(e)
	s.from, e = text(h.from, expand, "the path of a template")
	set(e)
	s.edits, e = h.isEdit(expand)
	set(e)
	return s, err
}

func wrong(n *document.Node, what string) error {
	return asFinding(document.Expected(n, what), "front matter")
}

func text(n *document.Node, expand expander, what string) (string, error) {
	switch {
	case n == nil:
		return "", nil
	case n.Kind != document.String:
		return "", wrong(n, what)
	}
	return expand(n)
}

func texts(n *document.Node, expand expander, what string) ([]inlineGraph, error) {
	if n == nil {
		return nil, nil
	}
	items := []*document.Node{n}
	if n.Kind == document.Seq {
		items = n.Items
	}
	var out []inlineGraph
	for _, item := range items {
		value, err := text(item, expand, what)
		if err != nil {
			return nil, err
		}
		out = append(out, inlineGraph{value, item})
	}
	return out, nil
}

func prefixes(n *document.Node, expand expander) ([]prefix, error) {
	switch {
	case n == nil:
		return nil, nil
	case n.Kind != document.Map:
		return nil, wrong(n, "names with their IRIs")
	}
	var out []prefix
	for _, e := range n.Entries {
		iri, err := text(e.Value, expand, "an IRI")
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(e.Key, ":")
		if !prefixName(name) || strings.ContainsAny(iri, "<>\"{}|^`\\ \t\r\n") {
			return nil, fault.New(fault.Finding, "write it as `ex: http://example.org/ns#`", "%s: prefix %q or its IRI %q is not valid", e.Place, e.Key, iri)
		}
		out = append(out, prefix{name, iri})
	}
	return out, nil
}

// prefixName accepts the plain part of PN_PREFIX of the SPARQL 1.1 grammar.
func prefixName(name string) bool {
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 0x7f
		if !letter && (i == 0 || !strings.ContainsRune("0123456789-_.", r)) {
			return false
		}
	}
	return !strings.HasSuffix(name, ".")
}

// queries accepts a map of names, one query, which is called "default", or a
// list, whose queries are called query_0, query_1, …
func queries(n *document.Node, expand expander) ([]query, error) {
	if n == nil {
		return nil, nil
	}
	var out []query
	add := func(name string, node *document.Node) error {
		value, err := text(node, expand, "a SPARQL query")
		out = append(out, query{name: name, text: value, node: node})
		return err
	}
	switch n.Kind {
	case document.String:
		return out, add("default", n)
	case document.Seq:
		for i, item := range n.Items {
			if err := add("query_"+strconv.Itoa(i), item); err != nil {
				return nil, err
			}
		}
	case document.Map:
		for _, e := range n.Entries {
			if err := add(e.Key, e.Value); err != nil {
				return nil, err
			}
		}
	default:
		return nil, wrong(n, "a query, a list of queries, or names with queries")
	}
	return out, nil
}

// seed reads `determinism`: a number, true or false, or a table with a seed. A
// string is hashed. False says nothing: every run is deterministic (spec B3).
func seed(n *document.Node, expand expander) (uint64, bool, error) {
	if n == nil {
		return 0, false, nil
	}
	switch n.Kind {
	case document.Bool:
		return 0, false, nil
	case document.Int:
		return uint64(n.Int), true, nil
	case document.Map:
		return seed(n.Get("seed"), expand)
	case document.String:
		value, err := expand(n)
		if err != nil {
			return 0, false, err
		}
		if number, err := strconv.ParseUint(value, 10, 64); err == nil {
			return number, true, nil
		}
		sum := sha256.Sum256([]byte(value))
		return binary.BigEndian.Uint64(sum[:]), true, nil
	default:
		return 0, false, wrong(n, "a seed, true, false, or a table with a seed")
	}
}

func boolean(n *document.Node, expand expander) (bool, error) {
	switch {
	case n == nil:
		return false, nil
	case n.Kind == document.Bool:
		return n.Bool, nil
	case n.Kind == document.String:
		value, err := expand(n)
		if err != nil {
			return false, err
		}
		if i := slices.Index([]string{"false", "true"}, strings.TrimSpace(value)); i >= 0 {
			return i == 1, nil
		}
	}
	return false, wrong(n, "true or false")
}
