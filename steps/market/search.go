package market

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Query is what to search for. The zero value of a filter filters nothing.
type Query struct {
	// Text is split into words at spaces; a package must have all of them.
	Text string
	// Tags must all be there. The other words are compared without regard to case;
	// Author may be a part of the name.
	Tags                               []string
	Category, Keyword, Author, License string
	MinQuality                         int // 0 to 100
	MinStars, MinDownloads             int64
	// Prerelease also finds packages that have nothing but pre-releases.
	Prerelease bool
	// Fuzzy also accepts words with up to two letters wrong.
	Fuzzy bool
	// Sort is "relevance" (default), "stars", "downloads", "updated" or "name".
	Sort string
	// Order is "desc" (default; for names "asc") or "asc".
	Order string
	// Limit is how many are returned, 1 to 100; 0 means 10.
	Limit int
}

// Match is a package that was found.
type Match struct {
	*Package
	// Score is the sum of the weights of all words; 0 for a search without words.
	Score int
}

const (
	defaultLimit = 10
	maxLimit     = 100
	maxQuery     = 1000 // characters
)

// Weights of a word by where it stands (behaviour.md A2); a word that only begins
// there counts half, one with letters wrong a quarter.
const (
	weightExactName   = 100
	weightName        = 50
	weightTag         = 30
	weightKeyword     = 25
	weightDescription = 20
	weightFeature     = 10
)

// Search returns the packages that match, best first. Ties are broken by quality,
// highest first, then by id, so the order is always the same. Nothing found is no error.
func Search(index *Index, q Query) ([]Match, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	words := strings.Fields(strings.ToLower(q.Text))
	var found []Match
	for i := range index.Packages {
		p := &index.Packages[i]
		if !q.accepts(p) {
			continue
		}
		if score, ok := relevance(p, words, q.Fuzzy); ok {
			found = append(found, Match{p, score})
		}
	}
	slices.SortFunc(found, q.compare)
	limit := q.Limit
	if limit == 0 {
		limit = defaultLimit
	}
	return found[:min(limit, len(found))], nil
}

func (q *Query) check() error {
	sorts := []string{"", "relevance", "stars", "downloads", "updated", "name"}
	switch {
	case strings.TrimSpace(q.Text) == "" && !q.filters():
		return fault.New(fault.Usage, "give a word to search for, or a filter", "search query is empty")
	case len([]rune(q.Text)) > maxQuery:
		return fault.New(fault.Usage, "", "search query has more than %d characters", maxQuery)
	case q.MinQuality < 0 || q.MinQuality > 100:
		return fault.New(fault.Usage, "", "minimum quality %d is outside 0 to 100", q.MinQuality)
	case q.Limit < 0 || q.Limit > maxLimit:
		return fault.New(fault.Usage, "", "limit %d is outside 1 to %d", q.Limit, maxLimit)
	case !slices.Contains(sorts, q.Sort):
		return fault.New(fault.Usage, fault.DidYouMean(q.Sort, sorts[1:]), "sort %q is not one of %s", q.Sort, strings.Join(sorts[1:], ", "))
	case q.Order != "" && q.Order != "asc" && q.Order != "desc":
		return fault.New(fault.Usage, "", "order %q is not one of asc, desc", q.Order)
	}
	return nil
}

func (q *Query) filters() bool {
	return len(q.Tags) > 0 || q.Category+q.Keyword+q.Author+q.License != "" || q.MinQuality > 0 || q.MinStars > 0 || q.MinDownloads > 0
}

func (q *Query) accepts(p *Package) bool {
	has := func(list []string, word string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, word) })
	}
	for _, tag := range q.Tags {
		if !has(p.Tags, strings.TrimSpace(tag)) {
			return false
		}
	}
	newest := p.Releases[0].version // pre-releases come before their release
	for i := range p.Releases {
		if p.Releases[i].version.Prerelease() == "" {
			newest = p.Releases[i].version
			break
		}
	}
	return (q.Category == "" || strings.EqualFold(p.Category, q.Category)) &&
		(q.Keyword == "" || has(p.Keywords, q.Keyword)) &&
		(q.Author == "" || strings.Contains(strings.ToLower(p.Author), strings.ToLower(q.Author))) &&
		(q.License == "" || strings.EqualFold(p.License, q.License)) &&
		p.QualityScore >= q.MinQuality && p.Stars >= q.MinStars && p.Downloads >= q.MinDownloads &&
		(q.Prerelease || newest.Prerelease() == "")
}

func (q *Query) compare(a, b Match) int {
	var c int
	switch q.Sort {
	case "stars":
		c = cmp.Compare(b.Stars, a.Stars)
	case "downloads":
		c = cmp.Compare(b.Downloads, a.Downloads)
	case "updated": // RFC 3339 in UTC sorts as text
		c = cmp.Compare(b.Updated, a.Updated)
	case "name":
		c = cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	default:
		c = cmp.Compare(b.Score, a.Score)
	}
	if q.Sort == "name" && q.Order == "desc" || q.Sort != "name" && q.Order == "asc" {
		c = -c
	}
	return cmp.Or(c, cmp.Compare(b.QualityScore, a.QualityScore), cmp.Compare(a.ID, b.ID))
}

// relevance returns the score of p, or false if one of the words is not in it.
func relevance(p *Package, words []string, fuzzy bool) (int, bool) {
	id, name := strings.ToLower(p.ID), strings.ToLower(p.Name)
	total := 0
	if len(words) > 0 && (strings.Join(words, " ") == name || strings.Join(words, "-") == id) {
		total += weightExactName
	}
	fields := []struct {
		weight int
		text   string
	}{
		{weightName, id + " " + name},
		{weightTag, strings.ToLower(strings.Join(p.Tags, " "))},
		{weightKeyword, strings.ToLower(strings.Join(p.Keywords, " "))},
		{weightDescription, strings.ToLower(p.Description)},
		{weightFeature, strings.ToLower(strings.Join(p.Features, " "))},
	}
	for _, word := range words {
		score := 0
		for _, f := range fields {
			score += wordScore(f.text, word, f.weight, fuzzy)
		}
		if score == 0 {
			return 0, false
		}
		total += score
	}
	return total, true
}

func wordScore(text, word string, weight int, fuzzy bool) int {
	best := 0
	for token := range strings.FieldsFuncSeq(text, func(r rune) bool { return strings.ContainsRune(" \t\n-_.,;:/()", r) }) {
		switch {
		case token == word:
			return weight
		case strings.Contains(token, word):
			best = max(best, weight/2)
		case fuzzy:
			if _, near := fault.Nearest(word, []string{token}); near {
				best = max(best, weight/4)
			}
		}
	}
	if best == 0 && strings.Contains(text, word) { // a word with a separator in it
		best = weight / 2
	}
	return best
}

// Find returns the package called id, or the error of an unknown one.
func Find(index *Index, id string) (*Package, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	p, ok := index.Package(id)
	if !ok {
		r := resolver{index: index}
		return nil, r.unknown(id, []demand{{by: project}})
	}
	return p, nil
}

// Category is how many packages have a category.
type Category struct {
	Name     string `json:"name"`
	Packages int    `json:"packages"`
}

// Categories counts the categories of an index, largest first.
func Categories(index *Index) []Category {
	counts := map[string]int{}
	for i := range index.Packages {
		if name := index.Packages[i].Category; name != "" {
			counts[name]++
		}
	}
	out := make([]Category, 0, len(counts))
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, Category{name, counts[name]})
	}
	slices.SortStableFunc(out, func(a, b Category) int { return cmp.Compare(b.Packages, a.Packages) })
	return out
}

// Installed is a pinned package beside what the index has of it.
type Installed struct {
	Locked
	// Update is the newest version above the pinned one, empty if there is none.
	Update string
	// Missing is set if the index does not have the package any more.
	Missing bool
}

// List compares the pinned packages with an index, which may be nil: then nothing
// is said about updates. Pre-releases count as updates only with prerelease.
func List(pinned []Locked, index *Index, prerelease bool) []Installed {
	out := make([]Installed, 0, len(pinned))
	for _, l := range pinned {
		i := Installed{Locked: l}
		if index != nil {
			i.Update, i.Missing = update(l, index, prerelease)
		}
		out = append(out, i)
	}
	return out
}

func update(l Locked, index *Index, prerelease bool) (newer string, missing bool) {
	p, ok := index.Package(l.ID)
	if !ok {
		return "", true
	}
	current, err := parseVersion(l.Version)
	if err != nil {
		return "", false // ParseLock refuses it before it gets here
	}
	for _, r := range slices.Backward(p.Releases) {
		if compareVersions(r.version, current) <= 0 {
			break
		}
		if prerelease || r.version.Prerelease() == "" {
			return r.Version, false
		}
	}
	return "", false
}
