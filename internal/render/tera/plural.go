package tera

import (
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Number of English words by the rules of Inflector 0.11, from the most special
// to the most general; the first that fits is taken. A rule keeps the stem and
// adds an ending. A stem begins where the last run of word characters begins,
// and what is before it is lost, as in the crate.

// letter is what Rust's \w matches.
const letter = `[\pL\pM\p{Nd}\p{Pc}]`

type wordRule struct {
	pattern string // with the stem as its first group
	add     string // behind the stem; $2 is the second group
}

// Words that have one form.
var uncountable = strings.Fields(`
	accommodation adulthood advertising advice aggression aid air aircraft alcohol anger applause arithmetic assistance athletics
	bacon baggage beef biology blood botany bread butter carbon cardboard cash chalk chaos chess crossroads countryside
	dancing deer dignity dirt dust economics education electricity engineering enjoyment envy equipment ethics evidence evolution
	fame fiction flour flu food fuel fun furniture gallows garbage garlic genetics gold golf gossip grammar gratitude grief guilt gymnastics
	happiness hardware harm hate hatred health heat help homework honesty honey hospitality housework humour hunger hydrogen
	ice importance inflation information innocence iron irony jam jewelry judo karate knowledge
	lack laughter lava leather leisure lightning linguine linguini linguistics literature litter livestock logic loneliness luck luggage
	macaroni machinery magic management mankind marble mathematics mayonnaise measles methane milk money mud music mumps
	nature news nitrogen nonsense nurture nutrition obedience obesity oxygen pasta patience physics poetry pollution poverty pride
	psychology publicity punctuation quartz racism relaxation reliability research respect revenge rice rubbish rum
	safety scenery seafood seaside series shame sheep shopping sleep smoke smoking snow soap software soil spaghetti species steam
	stuff stupidity sunshine symmetry tennis thirst thunder timber traffic transportation trust underwear unemployment unity
	validity veal vegetation vegetarianism vengeance violence vitality warmth wealth weather welfare wheat wildlife wisdom
	yoga zinc zoology`)

// Pairs of a singular and a plural that no rule makes.
var irregular = []struct{ one, many string }{
	{"ox", "oxen"}, {"man", "men"}, {"woman", "women"}, {"die", "dice"}, {"yes", "yeses"}, {"foot", "feet"},
	{"eave", "eaves"}, {"goose", "geese"}, {"tooth", "teeth"}, {"quiz", "quizzes"},
}

var pluralRules = []wordRule{
	{`(*eaux)$`, ""},
	{`(*child)(?:ren)?$`, "ren"},
	{`(*pe(?:rson|ople))$`, "ople"}, // person becomes personople
	{`(*(?:m|l)(?:ice|ouse))$`, "ice"},
	{`(*(?:matr|cod|mur|sil|vert|ind|append))(?:ix|ex)$`, "ices"},
	{`(*(?:x|ch|ss|sh|zz))$`, "es"},
	{`(*(?:x|ch|ss|sh|zz)es)$`, ""},
	{`(*[^ch][ieo][ln])ey$`, "ies"},
	{`(*(?:[^aeiouy]|qu))y$`, "ies"},
	{`(*(?:ar|l|ea|eo|oa|hoo))f$`, "ves"},
	{`(*(?:kni|wi|li))fe$`, "ves"},
	{`(*)sis$`, "ses"},
	{`(*(?:apheli|hyperbat|periheli|asyndet|noumen|phenomen|criteri|organ|prolegomen|hedr|automat))(?:a|on)$`, "a"},
	{`(*(?:agend|addend|millenni|dat|extrem|bacteri|desiderat|strat|candelabr|errat|ov|symposi|curricul|automat|quor))(?:a|um)$`, "a"},
	{`(*(?:her|at|gr))o$`, "oes"},
	{`(*(?:seraph|cherub))(?:im)?$`, "im"},
	{`(*(?:alumn|alg|vertebr))(?:a|ae)$`, "ae"},
	{`(*(?:alumn|syllab|octop|vir|radi|nucle|fung|cact|stimul|termin|bacill|foc|uter|loc|strat))(?:us|i)$`, "i"},
	{`(*(?:[^l]ias|[aeiou]las|[emjzr]as|[iu]am))$`, ""},
	{`(*e[mn]u)s?$`, "s"},
	{`(*(?:alias|[^aou]us|tlas|gas|ris))$`, "es"},
	{`(*(?:ax|test))is$`, "es"},
	{`(*[^aeiou]ese)$`, ""},
	{`(*)s$`, "s"},
}

var singularRules = []wordRule{
	{`(database)s$`, ""},
	{`(quiz)zes$`, ""},
	{`(matr)ices$`, "ix"},
	{`(vert|ind)ices$`, "ex"},
	{`^(ox)en`, ""},
	{`(alias|status)(?:es)?$`, ""},
	{`(octop|vir)(?:us|i)$`, "us"},
	{`^(a)x[ie]s$`, "xis"},
	{`(cris|test)(?:is|es)$`, "is"},
	{`(shoe)s$`, ""},
	{`(bus)(?:es)?$`, ""},
	{`(m|l)ice$`, "ouse"},
	{`(*)(x|ch|ss|sh)es$`, "$2"},
	{`(m)ovies$`, "ovie"},
	{`(s)eries$`, "eries"},
	{`(*(?:[^aeiouy]|qu))ies$`, "y"},
	{`(*)[lr]ves$`, "f"},
	{`(*)tives$`, ""},
	{`(*)hives$`, ""},
	{`(*)[^f]ves$`, "fe"},
	{`(^analy)(?:sis|ses)$`, "sis"},
	{`(analy|ba|diagno|parenthe|progno|synop|the)(?:sis|ses)$`, "sis"},
	{`(*)[ti]a$`, "um"},
	{`(*)oes$`, ""},
	{`(n)ews$`, "ews"},
	{`(*)(ss)$`, "$2"},
	{`(*)s$`, ""},
}

type compiledRule struct {
	*regexp.Regexp
	add string
}

func compileRules(rules []wordRule) func() []compiledRule {
	return sync.OnceValue(func() []compiledRule {
		list := make([]compiledRule, len(rules))
		for i, r := range rules {
			pattern := strings.Replace(r.pattern, "(*", "("+letter+"*", 1)
			list[i] = compiledRule{regexp.MustCompile(pattern), r.add}
		}
		return list
	})
}

var (
	compiledPlural   = compileRules(pluralRules)
	compiledSingular = compileRules(singularRules)
)

func plural(s string) string {
	for _, p := range irregular {
		if s == p.one {
			return p.many
		}
	}
	if word, ok := applyRules(s, compiledPlural()); ok {
		return word
	}
	return s + "s"
}

func singular(s string) string {
	if s == "boxes" {
		return "box"
	}
	for _, p := range irregular {
		if s == p.many {
			return p.one
		}
	}
	word, _ := applyRules(s, compiledSingular())
	return word
}

func applyRules(s string, rules []compiledRule) (string, bool) {
	if slices.Contains(uncountable, s) {
		return s, true
	}
	for _, r := range rules {
		m := r.FindStringSubmatchIndex(s)
		if m == nil {
			continue
		}
		add := r.add
		if add == "$2" {
			add = s[m[4]:m[5]]
		}
		return s[m[2]:m[3]] + add, true
	}
	return s, false
}
