package market_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/market"
)

const shop = `{"version":"1.0","packages":[
 {"id":"rust-web","name":"Rust Web Service","version":"2.0.0","description":"A web service in Rust","tags":["rust","web"],"keywords":["http"],"category":"backend","author":"Ann Lee","license":"MIT","quality_score":80,"stars":5,"downloads":10,"updated":"2026-01-01T00:00:00Z","versions":{"1.0.0":{},"2.0.0":{},"3.0.0-beta.1":{}}},
 {"id":"go-web","name":"Go Web Service","version":"1.0.0","description":"HTTP in Go","tags":["go","Web"],"category":"Backend","author":"Bob","license":"Apache-2.0","quality_score":90,"stars":50,"downloads":1,"updated":"2025-01-01T00:00:00Z"},
 {"id":"go-cli","name":"Go CLI","version":"1.0.0","description":"command lines, tested","tags":["go"],"category":"tool","license":"MIT","quality_score":90,"features":["web"]},
 {"id":"next","name":"Next web","version":"1.0.0-rc.1","description":"","tags":["web"]}]}`

func shopIndex(t *testing.T) *market.Index {
	t.Helper()
	x, err := market.DecodeIndex("shop", []byte(shop))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestSearch(t *testing.T) {
	t.Parallel()
	x := shopIndex(t)
	tests := []struct {
		name string
		q    market.Query
		want string
	}{
		{"words in any place", market.Query{Text: "rust web service"}, "rust-web"},
		{"all words must match", market.Query{Text: "go rust"}, ""},
		{"by weight", market.Query{Text: "web"}, "rust-web go-web go-cli"},
		{"case", market.Query{Text: "RUST"}, "rust-web"},
		{"exact id first", market.Query{Text: "go-web"}, "go-web"},
		{"part of a word", market.Query{Text: "serv"}, "rust-web go-web"},
		{"more places first", market.Query{Text: "go"}, "go-web go-cli"},
		{"ties by id", market.Query{Tags: []string{"go"}}, "go-cli go-web"},
		{"typo", market.Query{Text: "servcie"}, ""},
		{"typo, fuzzy", market.Query{Text: "servcie", Fuzzy: true}, "rust-web go-web"},
		{"tag", market.Query{Tags: []string{"web"}}, "go-web rust-web"},
		{"all tags", market.Query{Tags: []string{"web", "GO"}}, "go-web"},
		{"category", market.Query{Category: "BACKEND"}, "go-web rust-web"},
		{"keyword", market.Query{Keyword: "http"}, "rust-web"},
		{"author", market.Query{Author: "lee"}, "rust-web"},
		{"license", market.Query{License: "mit"}, "go-cli rust-web"},
		{"quality", market.Query{Text: "web", MinQuality: 85}, "go-web go-cli"},
		{"stars", market.Query{MinStars: 6}, "go-web"},
		{"downloads", market.Query{MinDownloads: 5}, "rust-web"},
		{"pre-releases", market.Query{Text: "next", Prerelease: true}, "next"},
		{"no pre-releases", market.Query{Text: "next"}, ""},
		{"sort by stars", market.Query{Text: "web", Sort: "stars"}, "go-web rust-web go-cli"},
		{"sort by downloads", market.Query{Text: "web", Sort: "downloads"}, "rust-web go-web go-cli"},
		{"sort by time, oldest first", market.Query{Text: "service", Sort: "updated", Order: "asc"}, "go-web rust-web"},
		{"sort by name", market.Query{Text: "web", Sort: "name"}, "go-cli go-web rust-web"},
		{"sort by name, last first", market.Query{Text: "web", Sort: "name", Order: "desc"}, "rust-web go-web go-cli"},
		{"limit", market.Query{Text: "web", Limit: 1}, "rust-web"},
		{"nothing", market.Query{Text: "cobol"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			found, err := market.Search(x, tt.q)
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, m := range found {
				ids = append(ids, m.ID)
			}
			if got := strings.Join(ids, " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for _, q := range []market.Query{{}, {Text: "  "}, {Text: strings.Repeat("x", 1001)}, {Text: "a", MinQuality: 101}, {Text: "a", Limit: 101}, {Text: "a", Limit: -1}, {Text: "a", Sort: "x"}, {Text: "a", Order: "x"}} {
		if _, err := market.Search(x, q); fault.KindOf(err) != fault.Usage || err == nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func TestFindCategoriesList(t *testing.T) {
	t.Parallel()
	x := shopIndex(t)
	if p, err := market.Find(x, "go-cli"); err != nil || p.Name != "Go CLI" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := market.Find(x, "go-clu"); err == nil || fault.HintOf(err) != `did you mean "go-cli"?` {
		t.Errorf("%v", err)
	}
	if _, err := market.Find(x, "../x"); fault.KindOf(err) != fault.Usage {
		t.Errorf("%v", err)
	}
	if got, want := market.Categories(x), []market.Category{{"Backend", 1}, {"backend", 1}, {"tool", 1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	pinned := []market.Locked{{ID: "gone", Version: "1.0.0"}, {ID: "go-cli", Version: "1.0.0"}, {ID: "rust-web", Version: "1.0.0"}}
	var got []string
	for _, i := range market.List(pinned, x, false) {
		got = append(got, i.ID+":"+i.Update+map[bool]string{true: "missing"}[i.Missing])
	}
	if strings.Join(got, " ") != "gone:missing go-cli: rust-web:2.0.0" {
		t.Errorf("%v", got)
	}
	if got := market.List(pinned, x, true)[2].Update; got != "3.0.0-beta.1" {
		t.Errorf("with pre-releases %q", got)
	}
	if got := market.List(pinned, nil, false)[0]; got.Missing || got.Update != "" {
		t.Errorf("without an index %+v", got)
	}
}
