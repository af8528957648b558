package embedded

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
)

// remembering makes an environment with what is remembered in dir and reports whether
// that was used.
func remembering(t *testing.T, o Options) bool {
	t.Helper()
	b := New(o)
	knew := b.Remembers()
	e, err := b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "remembering"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	c, err := e.Start(t.Context(), sandbox.ContainerSpec{Name: "true", Argv: []string{"/usr/bin/true"}})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := c.Wait(t.Context()); err != nil || !st.OK() {
		t.Error(st, err)
	}
	if level := e.Effective().Level; b.found.recalled && level != sandbox.Full {
		t.Errorf("level %s is remembered", level)
	}
	if knew != b.found.recalled {
		t.Errorf("%t was said of the memory that was used: %t", knew, b.found.recalled)
	}
	return b.found.recalled
}

func TestRemember(t *testing.T) {
	o := Options{StateDir: t.TempDir()}
	path := filepath.Join(o.StateDir, memoryFileName)
	if remembering(t, o) {
		t.Error("something is remembered before the first environment")
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Skip("the best way to isolate does not work here: nothing is remembered")
	}
	if !remembering(t, o) {
		t.Error("what the first environment proved is proved again")
	}
	probed := New(Options{StateDir: t.TempDir()})
	if _, err := probed.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !remembering(t, probed.options) {
		t.Error("what a probe proved is proved again")
	}
	none := sandbox.None
	if remembering(t, Options{StateDir: o.StateDir, MaxLevel: &none}) {
		t.Error("a level above the highest one allowed is remembered")
	}
	for name, change := range map[string]func(*memory){
		"another version":   func(m *memory) { m.Schema++ },
		"another boot":      func(m *memory) { m.Machine.Boot = "x" },
		"another kernel":    func(m *memory) { m.Machine.Kernel = "x" },
		"another user":      func(m *memory) { m.Machine.User++ },
		"another program":   func(m *memory) { m.Machine.Program = "x" },
		"other namespaces":  func(m *memory) { m.Machine.Namespaces = "x" },
		"other privileges":  func(m *memory) { m.Machine.Privileges = "x" },
		"another profile":   func(m *memory) { m.Machine.Profile = "x" },
		"other settings":    func(m *memory) { m.Machine.Settings = "x" },
		"other hierarchies": func(m *memory) { m.Trees = "x" },
	} {
		var m memory
		if err := json.Unmarshal(good, &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		if err := New(o).write(m); err != nil {
			t.Fatal(err)
		}
		if f := New(o).recall(); f != nil {
			t.Errorf("%s: remembered", name)
		}
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if remembering(t, o) {
		t.Error("half a memory is remembered")
	}
	if !remembering(t, o) {
		t.Error("half a memory is not mended")
	}
}

// TestRememberedWrongly remembers what does not hold: an error, and then nothing.
func TestRememberedWrongly(t *testing.T) {
	o := Options{StateDir: t.TempDir()}
	if remembering(t, o); New(o).recall() == nil {
		t.Skip("the best way to isolate does not work here: nothing is remembered")
	}
	// The helper of these is none: no environment can be made with it.
	o.Helper = "/bin/false"
	b := New(o)
	now, err := b.thisMachine()
	if err != nil {
		t.Fatal(err)
	}
	all, _, err := parents()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.write(memory{Schema: memorySchema, Machine: now, UserNS: !privileged(), Trees: treesOf(all)}); err != nil {
		t.Fatal(err)
	}
	f := b.recall()
	if f == nil {
		t.Fatal("not remembered")
	}
	if _, err := b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "wrong", MinIsolation: sandbox.Full}); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("create: %v", err)
	}
	if b.recall() != nil {
		t.Error("it is remembered still")
	}
	failed := fault.New(fault.Unavailable, "", "start")
	if err := b.write(memory{}); err != nil {
		t.Fatal(err)
	}
	if err := b.forget(&findings{}, failed); err != error(failed) || !exists(b.memoryPath()) {
		t.Errorf("a failure of what was found out now is %v, and the memory is gone", err)
	}
	if err := b.forget(f, failed); fault.HintOf(err) == "" || exists(b.memoryPath()) {
		t.Errorf("after %v the memory is there", err)
	}
}

// TestNoJournal: where no journal can be written, as on a disk that is full, that is what
// is wrong. It says nothing of what the kernel allows, now or later.
func TestNoJournal(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(state, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := New(Options{StateDir: state})
	if e, err := b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "first"}); err == nil || !strings.Contains(err.Error(), state) || strings.Contains(err.Error(), "level") {
		t.Errorf("%v, %v", e, err)
	}
	if c, err := b.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), state) {
		t.Errorf("it seems to be able to do %+v, %v", c, err)
	}
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	want, err := New(Options{StateDir: t.TempDir()}).Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Create(t.Context(), sandbox.EnvironmentSpec{Name: "second"})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	if got := e.Effective().Level; got != want.Level {
		t.Errorf("level %s, and %s is possible", got, want.Level)
	}
}
