package cleanroom_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom/service"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/finding"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// ownDatabase is a test in which the number of rows is right only if nobody else
// writes to its database.
const ownDatabase = `set -eu
psql "$DATABASE_URL" -qAt -v ON_ERROR_STOP=1 -c 'INSERT INTO seen VALUES (1)' >/dev/null
test "$(psql "$DATABASE_URL" -qAt -c 'SELECT count(*) FROM seen')" = 1
test "$(redis-cli -u "$REDIS_URL" --no-auth-warning SET key value NX)" = OK
`

// serviceLab returns a lab with this machine's database and cache beside the tests.
func serviceLab(t *testing.T) *lab {
	t.Helper()
	l := newSuiteLab(t, cleanroom.Shell)
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	for _, program := range append(found, "/usr/bin/psql", "/usr/bin/redis-server", "/usr/bin/redis-cli") {
		if _, err := os.Stat(program); err != nil || len(found) == 0 {
			t.Skip("PostgreSQL and redis are not installed")
		}
	}
	l.step.Templates = service.Templates{Dir: filepath.Join(scratch, "templates")}
	l.step.Services = []service.Spec{
		{Name: "db", Kind: service.Postgres, Programs: filepath.Dir(found[0]), Version: "host", Init: []string{"CREATE TABLE seen (n int)"}},
		{Name: "redis", Kind: service.Redis, Programs: "/usr/bin"},
	}
	return l
}

func TestServices(t *testing.T) {
	t.Parallel()
	l := serviceLab(t)
	files := map[string]string{}
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		files[name+"_test.sh"] = ownDatabase
	}
	res, err := l.run(t, files)
	if err != nil {
		t.Fatal(err)
	}
	if res.Entry.Outcome != state.Passed || len(res.Entry.Checks) != 6 {
		t.Errorf("%s, checks %v", res.Entry.Outcome, res.Entry.Checks)
	}
	for _, fact := range []string{"service.db.ready-seconds", "service.redis.ready-seconds"} {
		if res.Evidence.Facts[fact] == "" {
			t.Errorf("no fact %s", fact)
		}
	}
}

// goDatabase is a test of a Go package that makes a table and a key, which somebody else
// with the same data has made already.
const goDatabase = `package %[1]s

import (
	"os"
	"os/exec"
	"testing"
)

func TestOwn(t *testing.T) {
	for _, argv := range [][]string{
		{"psql", os.Getenv("DATABASE_URL"), "-qAt", "-v", "ON_ERROR_STOP=1", "-c", "CREATE TABLE mine (n int); INSERT INTO seen VALUES (1)"},
		{"sh", "-c", "test \"$(redis-cli -u \"$REDIS_URL\" --no-auth-warning SET key value NX)\" = OK"},
		{"sh", "-c", "test \"$(psql -qAt -c 'SELECT count(*) FROM seen')\" = 1"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Errorf("%%s: %%v\n%%s", argv[0], err, out)
		}
	}
	if os.Getenv("DB_TEMPLATE") == "" {
		t.Error("no DB_TEMPLATE")
	}
}
`

// goServices are files of a module whose packages each use the services.
func goServices(packages ...string) map[string]string {
	files := map[string]string{"go.mod": "module example.com/many\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() {}\n"}
	for _, name := range packages {
		files[name+"/own_test.go"] = fmt.Sprintf(goDatabase, name)
	}
	return files
}

// TestGoPackages: the tests of each Go package have data of their own, also where some of
// one run again.
func TestGoPackages(t *testing.T) {
	t.Parallel()
	l := serviceLab(t)
	files := goServices("a", "b", "c")
	files["c/fails_test.go"] = "package c\n\nimport (\n\"os\"\n\"testing\"\n)\n\nfunc TestFails(t *testing.T) { t.Error(\"with \" + os.Getenv(\"PGPASSWORD\")) }\n"
	l.step.Tests.Retries = 1
	res, err := l.run(t, files)
	if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "with ***") {
		t.Fatalf("error: %v", err)
	}
	outcomes := map[string]state.Outcome{}
	for _, c := range res.Entry.Checks {
		outcomes[c.Name] = c.Outcome
	}
	for _, name := range []string{"a.TestOwn", "b.TestOwn", "c.TestOwn"} {
		if outcomes[name] != state.Passed {
			t.Errorf("%s is %q in %v: %v", name, outcomes[name], outcomes, err)
		}
	}
}

// TestGoShared: packages that ask for it have one database.
func TestGoShared(t *testing.T) {
	t.Parallel()
	l := serviceLab(t)
	for i := range l.step.Services {
		l.step.Services[i].Shared = true
	}
	if _, err := l.run(t, goServices("a", "b")); fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), "already exists") {
		t.Errorf("error: %v", err)
	}
}

// TestSharedServices: tests that ask for it see what the others wrote.
func TestSharedServices(t *testing.T) {
	t.Parallel()
	l := serviceLab(t)
	for i := range l.step.Services {
		l.step.Services[i].Shared = true
	}
	l.step.Tests.Parallel = 1
	res, err := l.run(t, map[string]string{"a_test.sh": ownDatabase, "b_test.sh": ownDatabase})
	if fault.KindOf(err) != fault.Finding {
		t.Fatalf("error: %v", err)
	}
	passed := 0
	for _, c := range res.Entry.Checks {
		if c.Outcome == state.Passed {
			passed++
		}
	}
	if passed != 1 {
		t.Errorf("checks %v, want one that passed", res.Entry.Checks)
	}
}

// TestServiceDies: a failed test is seen beside the service that left it alone.
func TestServiceDies(t *testing.T) {
	t.Parallel()
	l := serviceLab(t)
	l.step.Services = l.step.Services[1:]
	res, err := l.run(t, map[string]string{"a_test.sh": "redis-cli -u \"$REDIS_URL\" --no-auth-warning SHUTDOWN NOSAVE\nexit 1\n"})
	if fault.KindOf(err) != fault.Finding {
		t.Fatalf("error: %v", err)
	}
	for _, f := range res.Evidence.Findings {
		if f.Rule == cleanroom.RuleService && f.Severity == finding.Medium && strings.Contains(f.Why, "redis") {
			return
		}
	}
	t.Errorf("no finding tells it: %v", res.Evidence.Findings)
}

func TestServiceRefused(t *testing.T) {
	t.Parallel()
	l := serviceLab(t)
	l.step.Services = []service.Spec{{Name: "BAD", Kind: service.Redis}}
	if _, err := l.run(t, map[string]string{"a_test.sh": "true\n"}); fault.KindOf(err) != fault.Usage {
		t.Errorf("error: %v", err)
	}
}

// TestServicesKey: a password of a run is no reason to run again, an image is.
func TestServicesKey(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	key := func(spec service.Spec) string {
		l.step.Services = []service.Spec{spec}
		k, err := l.step.Key(t.Context(), state.State{})
		if err != nil {
			t.Fatal(err)
		}
		return k["services"]
	}
	one := service.Spec{Name: "db", Kind: service.Postgres, Version: "1", Password: "a"}
	two := one
	two.Password = "b"
	if key(one) != key(two) || strings.Contains(key(one), `"a"`) {
		t.Errorf("the password is in the key: %s", key(one))
	}
	if two.Version = "2"; key(one) == key(two) {
		t.Error("the version is not in the key")
	}
}
