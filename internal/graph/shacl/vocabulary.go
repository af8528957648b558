package shacl

import "github.com/ultrafast-ci/ultrafast/internal/graph"

// Namespaces.
const (
	// SH is the namespace of SHACL.
	SH   = "http://www.w3.org/ns/shacl#"
	rdfs = "http://www.w3.org/2000/01/rdf-schema#"
	owl  = "http://www.w3.org/2002/07/owl#"
)

// Severities of results (section 2.1.4). A shape may name any other IRI too.
const (
	Violation = SH + "Violation"
	Warning   = SH + "Warning"
	Info      = SH + "Info"
)

// parameters are those of the core (section 4), in the order in which the
// constraints of a shape are checked. The reader of a component is called with
// its first parameter, which is mandatory; also lists the others.
var parameters = []struct {
	name    string
	section string
	single  bool // at most one value
	scope   bool // property shapes only
	read    func(l *loader, s *shape, p string, value graph.ID)
	also    []string
}{
	{"minCount", "4.2.1", true, true, (*loader).minCount, nil},
	{"maxCount", "4.2.2", true, true, (*loader).maxCount, nil},
	{"class", "4.1.1", false, false, (*loader).class, nil},
	{"datatype", "4.1.2", true, false, (*loader).datatype, nil},
	{"nodeKind", "4.1.3", true, false, (*loader).nodeKind, nil},
	{"minExclusive", "4.3.1", true, false, (*loader).valueRange, nil},
	{"minInclusive", "4.3.2", true, false, (*loader).valueRange, nil},
	{"maxExclusive", "4.3.3", true, false, (*loader).valueRange, nil},
	{"maxInclusive", "4.3.4", true, false, (*loader).valueRange, nil},
	{"minLength", "4.4.1", true, false, (*loader).length, nil},
	{"maxLength", "4.4.2", true, false, (*loader).length, nil},
	{"pattern", "4.4.3", true, false, (*loader).pattern, []string{"flags"}},
	{"languageIn", "4.4.4", true, false, (*loader).languageIn, nil},
	{"uniqueLang", "4.4.5", true, true, (*loader).uniqueLang, nil},
	{"equals", "4.5.1", false, false, (*loader).pair, nil},
	{"disjoint", "4.5.2", false, false, (*loader).pair, nil},
	{"lessThan", "4.5.3", false, true, (*loader).pair, nil},
	{"lessThanOrEquals", "4.5.4", false, true, (*loader).pair, nil},
	{"hasValue", "4.8.2", false, false, (*loader).hasValue, nil},
	{"in", "4.8.3", true, false, (*loader).in, nil},
	{"closed", "4.8.1", true, false, (*loader).closed, []string{"ignoredProperties"}},
	{"not", "4.6.1", false, false, (*loader).not, nil},
	{"and", "4.6.2", false, false, (*loader).logical, nil},
	{"or", "4.6.3", false, false, (*loader).logical, nil},
	{"xone", "4.6.4", false, false, (*loader).logical, nil},
	{"node", "4.7.1", false, false, (*loader).nodeShape, nil},
	{"property", "4.7.2", false, false, (*loader).property, nil},
	{"qualifiedValueShape", "4.7.3", true, true, (*loader).qualified, []string{"qualifiedMinCount", "qualifiedMaxCount", "qualifiedValueShapesDisjoint"}},
}

// targetParameters declare targets (section 2.1.3).
var targetParameters = []struct {
	name, section string
	kind          targetKind
}{
	{"targetNode", "2.1.3.1", targetNode},
	{"targetClass", "2.1.3.2", targetClass},
	{"targetSubjectsOf", "2.1.3.4", targetSubjectsOf},
	{"targetObjectsOf", "2.1.3.5", targetObjectsOf},
}

// otherWords may be said of a shape besides parameters and targets: the other
// properties of section 2, and those that change no result (section 2.3.2).
// labelTemplate and optional stand in the vocabulary of SHACL itself, whose
// declarations of parameters are shapes.
var otherWords = []string{
	"path", "severity", "message", "deactivated",
	"name", "description", "order", "group", "defaultValue",
	"labelTemplate", "optional",
}

// beyond are words that ask for what lies beyond the core, with the part of
// SHACL that they belong to.
var beyond = map[string]string{
	"sparql":     "a SPARQL-based constraint (SHACL, section 5)",
	"js":         "a constraint in JavaScript (SHACL JavaScript Extensions)",
	"target":     "a custom target (SHACL Advanced Features)",
	"rule":       "a rule (SHACL Advanced Features)",
	"expression": "an expression constraint (SHACL Advanced Features)",
}

// known are the words of SHACL that a shape may have as predicates.
var known = func() (words []string) {
	for _, p := range parameters {
		words = append(append(words, p.name), p.also...)
	}
	for _, t := range targetParameters {
		words = append(words, t.name)
	}
	return append(words, otherWords...)
}()

// component returns the IRI of the constraint component whose first parameter
// is named: "minCount" gives sh:MinCountConstraintComponent.
func component(parameter string) string {
	return SH + string(parameter[0]-'a'+'A') + parameter[1:] + "ConstraintComponent"
}
