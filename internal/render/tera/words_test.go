package tera

import "testing"

// The expected words are what the rules of Inflector 0.11 and heck 0.5 give,
// where they are wrong too.
func TestWordFilters(t *testing.T) {
	t.Parallel()
	inputs := []string{"foo_bar", "FooBar", "fooBar3", "HTTPServer", "Foo Bar", "Robert C. Martin", "-!#leading bad_chars*()", "FOO_BAR", "user2name"}
	for name, want := range map[string][]string{
		"camel":        {"fooBar", "fooBar", "fooBar3", "httpserver", "fooBar", "robertCMartin", "leadingBadChars", "fooBar", "user2Name"},
		"pascal":       {"FooBar", "FooBar", "FooBar3", "Httpserver", "FooBar", "RobertCMartin", "LeadingBadChars", "FooBar", "User2Name"},
		"snake":        {"foo_bar", "foo_bar", "foo_bar_3", "http_server", "foo_bar", "robert_c_martin", "leading_bad_chars", "foo_bar", "user_2name"},
		"kebab":        {"foo-bar", "foo-bar", "foo-bar-3", "http-server", "foo-bar", "robert-c-martin", "leading-bad-chars", "foo-bar", "user-2name"},
		"title":        {"Foo Bar", "Foo Bar", "Foo Bar3", "Httpserver", "Foo Bar", "Robert C Martin", "Leading Bad Chars", "Foo Bar", "User2 Name"},
		"sentence":     {"Foo bar", "Foo bar", "Foo bar3", "Httpserver", "Foo bar", "Robert c martin", "Leading bad chars", "Foo bar", "User2 name"},
		"train":        {"Foo-Bar", "Foo-Bar", "Foo-Bar3", "Httpserver", "Foo-Bar", "Robert-C-Martin", "Leading-Bad-Chars", "Foo-Bar", "User2-Name"},
		"class":        {"FooBar", "FooBar", "FooBar3", "Httpserver", "FooBar", "RobertCMartin", "LeadingBadChar", "FooBar", "User2Name"},
		"tableize":     {"foo_bars", "foo_bars", "foo_bar_3s", "http_servers", "foo_bars", "robert_c_martins", "leading_bad_chars", "foo_bars", "user_2names"},
		"foreign_key":  {"foo_bar_id", "foo_bar_id", "foo_bar_3_id", "http_server_id", "foo_bar_id", "robert_c_martin_id", "leading_bad_chars_id", "foo_bar_id", "user_2name_id"},
		"snake_case":   {"foo_bar", "foo_bar", "foo_bar3", "http_server", "foo_bar", "robert_c_martin", "leading_bad_chars", "foo_bar", "user2name"},
		"kebab_case":   {"foo-bar", "foo-bar", "foo-bar3", "http-server", "foo-bar", "robert-c-martin", "leading-bad-chars", "foo-bar", "user2name"},
		"pascal_case":  {"FooBar", "FooBar", "FooBar3", "HttpServer", "FooBar", "RobertCMartin", "LeadingBadChars", "FooBar", "User2name"},
		"camel_case":   {"fooBar", "fooBar", "fooBar3", "httpServer", "fooBar", "robertCMartin", "leadingBadChars", "fooBar", "user2name"},
		"titlecase":    {"Foo Bar", "Foo Bar", "Foo Bar3", "Http Server", "Foo Bar", "Robert C Martin", "Leading Bad Chars", "Foo Bar", "User2name"},
		"shouty_snake": {"FOO_BAR", "FOO_BAR", "FOO_BAR3", "HTTP_SERVER", "FOO_BAR", "ROBERT_C_MARTIN", "LEADING_BAD_CHARS", "FOO_BAR", "USER2NAME"},
		"shouty_kebab": {"FOO-BAR", "FOO-BAR", "FOO-BAR3", "HTTP-SERVER", "FOO-BAR", "ROBERT-C-MARTIN", "LEADING-BAD-CHARS", "FOO-BAR", "USER2NAME"},
		"lcfirst":      {"foo_bar", "fooBar", "fooBar3", "hTTPServer", "foo Bar", "robert C. Martin", "-!#leading bad_chars*()", "fOO_BAR", "user2name"},
		"ucfirst":      {"Foo_bar", "FooBar", "FooBar3", "HTTPServer", "Foo Bar", "Robert C. Martin", "-!#leading bad_chars*()", "FOO_BAR", "User2name"},
	} {
		for i, in := range inputs {
			checkFilter(t, name, in, want[i])
		}
	}
	for name, table := range map[string]map[string]string{
		"pluralize": {
			"box": "boxes", "boxes": "boxes", "geometry": "geometries", "ox": "oxen", "woman": "women", "test": "tests", "axis": "axes",
			"knife": "knives", "agendum": "agenda", "elf": "elves", "zoology": "zoology", "crate": "crates", "foo_bar": "foo_bars",
			"person": "personople", "people": "peopleople", "child": "children", "children": "children", "mouse": "mouseice", "matrix": "matrices",
			"bus": "buses", "alias": "aliases", "day": "days", "city": "cities", "hero": "heroes", "cactus": "cacti", "series": "series",
			"analysis": "analyses", "phenomenon": "phenomena", "datum": "data", "money": "money", "user id": "user ids", "class": "classes",
		},
		"singularize": {
			"boxes": "box", "oxen": "ox", "replies": "reply", "glass": "glass", "glasses": "glass", "witches": "witch", "dishes": "dish",
			"foo_bars": "foo_bar", "men": "man", "bacon": "bacon", "heroes": "her", "archives": "arc", "natives": "na", "data": "daum",
			"mice": "mouse", "buses": "bus", "abuses": "bus", "statuses": "status", "matrices": "matrix", "wolves": "wof", "lives": "lfe", "series": "series",
			"analyses": "analysis", "movies": "movie", "databases": "database", "news": "news", "octopi": "octopus", "access": "access",
		},
		"ordinalize":    {"1": "1st", "2": "2nd", "3": "3rd", "4": "4th", "11": "11th", "12": "12th", "113": "113th", "-1": "-1st", "0.1": "0.1", "a": "a", "": "", "12001": "12001st"},
		"deordinalize":  {"1st": "1", "12th": "12", "0.1": "0.1", "-1st": "-1", "22nd": "22"},
		"demodulize":    {"Test::Foo::Bar": "Bar", "::Bar": "Bar", "Bar": "Bar"},
		"deconstantize": {"Test::Foo::Bar": "Foo", "Foo::Bar": "Foo", "Bar": "", "::Bar": ""},
		"foreign_key":   {"Test::Foo::Bar": "bar_id", "foo_id": "foo_id"},
		"title":         {"Hello WORLD": "Hello W O R L D"},
		"constant":      {"api key": "API_KEY"},
		"param":         {"Api Key": "api-key"},
	} {
		for in, want := range table {
			checkFilter(t, name, in, want)
		}
	}
}

func checkFilter(t *testing.T, name, in, want string) {
	t.Helper()
	r := New(Options{}).start(t.Context(), &Template{parsed: &parsed{}}, nil)
	got, err := filters[name](r, in, args{})
	if err != nil || got != want {
		t.Errorf("%q | %s = %q, %v, want %q", in, name, got, err, want)
	}
}

func TestDialectFilters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		plain     bool
		src, want string
	}{
		{false, `{{ n | pluralize }} {{ n | upper }} {{ list | lower }} {{ "a-b" | title }}`, "3s 3 [3,1,2] A B"},
		{true, `{{ n | pluralize }} {{ "a-b c_d it's" | title }}`, "s A-B C_d It's"},
		{true, `{{ n | upper }}`, "error"},
		{false, `{{ "0xff" | hex_to_u64 }} {{ "560b48233d2e635f" | hex_to_u64 }} {{ "FFFFFFFFFFFFFFFF" | hex_to_u64 }}`, "255 6200128628193125215 18446744073709551615"},
		{false, `{{ "x" | hex_to_u64 }}`, "error"},
	} {
		got, err := renderWith(t, Options{PlainFilters: c.plain}, c.src)
		if c.want == "error" {
			if err == nil {
				t.Errorf("%s gives %q, has to be an error", c.src, got)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s\n   got %q, %v\n  want %q", c.src, got, err, c.want)
		}
	}
}
