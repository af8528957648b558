package docker

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/engine"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/inside"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// TestCompare sees everything fail that may be weaker than asked.
func TestCompare(t *testing.T) {
	t.Parallel()
	const none = "0000000000000000"
	ask := engine.ContainerSpec{
		User: "1:2", ReadOnly: true, Network: "none", Memory: 100 << 20, CPUs: 1.5, PIDs: 10, Files: 20, Shared: 1 << 20,
		Temporary: map[string]string{"/tmp": "", "/data": ""},
	}
	places := &places{disk: 4 << 20, temporary: map[string]int64{"/data": 1 << 20}, mounts: []engine.Mount{{Target: "/out"}, {Target: "/in", ReadOnly: true}}}
	type world struct {
		said  engine.Detail
		facts inside.Facts
	}
	good := func() *world {
		return &world{
			engine.Detail{Plain: true, Network: "none", Memory: 100 << 20, Swap: 100 << 20, CPUs: 1.5, PIDs: 10},
			inside.Facts{
				Version: inside.Version, UID: 1, GID: 2, CGroup: 1, Memory: 100 << 20, Swap: 100 << 20, PIDs: 10, CPUs: 1.5, Files: 20, ReadOnly: true,
				Status:     map[string]string{"CapInh": none, "CapPrm": none, "CapEff": none, "CapBnd": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2"},
				Temporary:  map[string]int64{"/tmp": 4 << 20, "/data": 1 << 20, "/dev/shm": 1 << 20},
				Interfaces: []string{"lo"}, Writable: []string{"/out"},
			},
		}
	}
	for name, c := range map[string]struct {
		change func(*world)
		want   string // part of the one complaint; empty: none
	}{
		"as asked":              {func(*world) {}, ""},
		"groups out of sight":   {func(w *world) { w.facts.Memory, w.facts.Swap, w.facts.PIDs, w.facts.CPUs = 0, 0, 0, 0 }, ""},
		"less memory":           {func(w *world) { w.facts.Memory = 1 << 20 }, ""},
		"capability":            {func(w *world) { w.facts.Status["CapBnd"] = "0000000000000400" }, "CapBnd"},
		"capabilities unread":   {func(w *world) { delete(w.facts.Status, "CapEff") }, "CapEff"},
		"new privileges":        {func(w *world) { w.facts.Status["NoNewPrivs"] = "0" }, "no_new_privs"},
		"no filter":             {func(w *world) { w.facts.Status["Seccomp"] = "0" }, "seccomp"},
		"root":                  {func(w *world) { w.facts.UID = 0 }, "user is 0:2"},
		"another interface":     {func(w *world) { w.facts.Interfaces = []string{"eth0", "lo"} }, "eth0"},
		"writable root":         {func(w *world) { w.facts.ReadOnly = false }, "root is writable"},
		"more memory":           {func(w *world) { w.facts.Memory++; w.facts.Memory += 1 << 20 }, "limit of memory is"},
		"no memory limit":       {func(w *world) { w.facts.Memory = -1 }, "limit of memory is not set"},
		"swap":                  {func(w *world) { w.facts.Swap = 200 << 20 }, "memory and swap"},
		"swap unknown":          {func(w *world) { w.facts.Swap, w.said.Swap = 0, 0 }, "memory and swap is not set"},
		"more processes":        {func(w *world) { w.facts.PIDs = 11 }, "processes is 11, not 10"},
		"more processors":       {func(w *world) { w.facts.CPUs = 2 }, "processors is 2, not 1.5"},
		"more files":            {func(w *world) { w.facts.Files = 1024 }, "open files"},
		"privileged":            {func(w *world) { w.said.Plain = false }, "privileged"},
		"capability added":      {func(w *world) { w.said.CapAdd = []string{"SYS_ADMIN"} }, "SYS_ADMIN"},
		"another network":       {func(w *world) { w.said.Network = "bridge" }, "bridge"},
		"processes of the host": {func(w *world) { w.said.PIDMode = "host" }, "processes of host"},
		"shared memory":         {func(w *world) { w.said.IPCMode = "host" }, "shared memory"},
		"unconfined":            {func(w *world) { w.said.Security = []string{"seccomp=unconfined"} }, "unconfined"},
		"unbounded":             {func(w *world) { w.facts.Temporary["/tmp"] = 0 }, "/tmp has no size limit"},
		"larger":                {func(w *world) { w.facts.Temporary["/data"] = 8 << 20 }, "/data has 8388608 bytes"},
		"one more":              {func(w *world) { w.facts.Temporary["/run"] = 1 }, "/run can be written"},
		"writable mount":        {func(w *world) { w.facts.Writable = []string{"/in", "/out"} }, "/in can be written"},
		"another program":       {func(w *world) { w.facts.Version++ }, "another version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := good()
			c.change(w)
			weaker := compare(ask, places, w.said, &w.facts)
			switch {
			case c.want == "" && len(weaker) > 0:
				t.Errorf("%q", weaker)
			case c.want != "" && (len(weaker) != 1 || !strings.Contains(weaker[0], c.want)):
				t.Errorf("%q, want one with %q", weaker, c.want)
			}
		})
	}
}

func TestLookUp(t *testing.T) {
	t.Parallel()
	passwd := []byte("root:x:0:0::/:/bin/sh\npostgres:x:70:71::/:/bin/sh\nbroken\n")
	group := []byte("root:x:0:\nwww:x:33:\n")
	for _, c := range []struct {
		user, group string
		uid, gid    int
		fails       bool
	}{
		{"postgres", "", 70, 71, false}, {"70", "", 70, 71, false}, {"1000", "", 1000, 1000, false},
		{"postgres", "www", 70, 33, false}, {"5", "6", 5, 6, false}, {"root", "", 0, 0, false},
		{"nobody-here", "", 0, 0, true}, {"postgres", "none", 0, 0, true},
	} {
		uid, gid, err := lookUp(c.user, c.group, c.group != "", passwd, group)
		if (err != nil) != c.fails || uid != c.uid || gid != c.gid {
			t.Errorf("%s:%s is %d:%d, %v", c.user, c.group, uid, gid, err)
		}
		if c.fails && fault.KindOf(err) != fault.Finding {
			t.Errorf("%s:%s: %s", c.user, c.group, fault.KindOf(err))
		}
	}
}

// TestRestore: a directory becomes what the archive says, and nothing around it changes.
func TestRestore(t *testing.T) {
	t.Parallel()
	around := t.TempDir()
	dir := filepath.Join(around, "dir")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("kept", "old")
	write("gone/deep/file", "x")
	write("was-file", "x")
	write("was-dir/file", "x")
	outside := filepath.Join(around, "outside")
	if err := os.WriteFile(outside, []byte("safe"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../outside", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	archive := func(headers ...*tar.Header) *tar.Reader {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range headers {
			if h.Typeflag == tar.TypeReg {
				h.Size = 3
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if h.Typeflag == tar.TypeReg {
				if _, err := w.Write([]byte("new")); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return tar.NewReader(&b)
	}
	file := func(name string) *tar.Header {
		return &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o4755}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	err = restore(root, archive(
		&tar.Header{Name: "top/", Typeflag: tar.TypeDir, Mode: 0o755},
		file("top/kept"), file("top/link"), file("top/was-dir"),
		&tar.Header{Name: "top/was-file/", Typeflag: tar.TypeDir, Mode: 0o700}, file("top/was-file/inner"),
		&tar.Header{Name: "top/to-outside", Typeflag: tar.TypeSymlink, Linkname: "../outside"},
	))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		got = append(got, name)
		return err
	})
	if err != nil || strings.Join(got, " ") != ". kept link to-outside was-dir was-file was-file/inner" {
		t.Errorf("%q, %v", got, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "kept")); err != nil || st.Mode() != 0o755 {
		t.Errorf("%v, %v: want no set-user-id", st.Mode(), err)
	}
	if text, _ := os.ReadFile(filepath.Join(dir, "kept")); string(text) != "new" {
		t.Errorf("kept is %q", text)
	}
	for name, h := range map[string]*tar.Header{
		"through a link": file("top/to-outside-dir/x"), "above": file("top/../../outside"),
	} {
		link := &tar.Header{Name: "top/to-outside-dir", Typeflag: tar.TypeSymlink, Linkname: ".."}
		if err := restore(root, archive(link, h)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if text, _ := os.ReadFile(outside); string(text) != "safe" {
		t.Errorf("outside is %q", text)
	}
	if entries, _ := os.ReadDir(around); len(entries) != 2 {
		t.Errorf("around: %v", entries)
	}
}
