package oci_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// member is an entry of a layer: its header, with the content of a file for its link.
type member = tar.Header

func regular(name, content string) member {
	return member{Typeflag: tar.TypeReg, Name: name, Linkname: content, Mode: 0o644}
}

func symlink(name, to string) member {
	return member{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
}

func hardlink(name, to string) member {
	return member{Typeflag: tar.TypeLink, Name: name, Linkname: to}
}

// inChain returns an entry that holds an image of those layers, as they are.
func inChain(t *testing.T, blobs state.Blobs, layers ...[]member) *state.Entry {
	t.Helper()
	return configured(t, blobs, map[string]any{"User": "70:70"}, layers...)
}

// configured is inChain with a configuration.
func configured(t *testing.T, blobs state.Blobs, settings map[string]any, layers ...[]member) *state.Entry {
	t.Helper()
	keep := func(name, mediaType string, b []byte) state.Artifact {
		a, err := state.WriteBlob(t.Context(), blobs, name, mediaType, b)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	marshal := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	describe := func(a state.Artifact) map[string]any {
		return map[string]any{"mediaType": a.MediaType, "digest": a.Digest, "size": a.Size}
	}
	e := &state.Entry{Phase: phase.Cleanroom}
	var descriptors []any
	var diffIDs []state.Digest
	for i, members := range layers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range members {
			content := ""
			if h.Typeflag == tar.TypeReg {
				content, h.Linkname = h.Linkname, ""
				h.Size = int64(len(content))
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		a := keep(state.ArtifactImageLayer(i), "application/vnd.oci.image.layer.v1.tar", b.Bytes())
		e.Artifacts, descriptors, diffIDs = append(e.Artifacts, a), append(descriptors, describe(a)), append(diffIDs, a.Digest)
	}
	config := keep(state.ArtifactImageConfig, state.MediaTypeImageConfig, marshal(map[string]any{
		"os": "linux", "architecture": "amd64", "config": settings, "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs},
	}))
	image := keep(state.ArtifactImage, state.MediaTypeImageManifest, marshal(map[string]any{
		"schemaVersion": 2, "mediaType": state.MediaTypeImageManifest, "config": describe(config), "layers": descriptors,
	}))
	e.Artifacts = append(e.Artifacts, config, image)
	e.Normalize()
	return e
}

// TestUnpackBase unpacks what bases of images have: links of both kinds, whiteouts, a
// directory that hides what is below it, and devices and rights that nobody gets.
func TestUnpackBase(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("windows has neither these links nor these modes")
	}
	blobs, dir := newStore(t), t.TempDir()
	rights := regular("usr/bin/su", "su")
	rights.Mode = 0o4777
	config, err := oci.Client{}.Unpack(t.Context(), blobs, inChain(t, blobs, []member{
		regular("usr/bin/tool-3", "old"), symlink("usr/bin/tool", "tool-3"), symlink("bin", "usr/bin"), hardlink("usr/bin/same", "usr/bin/tool-3"),
		symlink("etc/alternatives", "/usr/bin"), regular("usr/lib/gone", "x"), regular("srv/all/a", "a"), regular("srv/all/sub/b", "b"),
		rights, {Typeflag: tar.TypeChar, Name: "dev/null", Devmajor: 1, Devminor: 3}, {Typeflag: tar.TypeFifo, Name: "run/pipe"},
	}, []member{
		regular("bin/more", "through the link"), regular("usr/bin/tool-3", "new"), regular("usr/lib/.wh.gone", ""),
		regular("srv/all/.wh..wh..opq", ""), regular("srv/all/c", "c"), regular("etc/alternatives/one", "through another"),
	}), dir)
	if err != nil {
		t.Fatal(err)
	}
	if config.User != "70:70" {
		t.Errorf("configuration %+v", config)
	}
	got := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		switch {
		case err != nil || d.IsDir():
			return err
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			got[name] = "-> " + to
			return err
		}
		b, err := os.ReadFile(path)
		got[name] = string(b)
		return err
	})
	want := map[string]string{
		"usr/bin/tool-3": "new", "usr/bin/tool": "-> tool-3", "bin": "-> usr/bin", "usr/bin/same": "old", "usr/bin/more": "through the link",
		"usr/bin/one": "through another", "usr/bin/su": "su", "etc/alternatives": "-> /usr/bin", "srv/all/c": "c",
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v (%v), want %v", got, err, want)
	}
	if st, err := os.Stat(filepath.Join(dir, "usr/bin/su")); err != nil || st.Mode() != 0o755 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

// TestInstall keeps what a service needs to write where its image lets it: modes, owners
// where root unpacks, and directories that the image lacks.
func TestInstall(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("windows has neither these links nor these modes")
	}
	with := func(h member, mode int64, id int) member {
		h.Mode, h.Uid, h.Gid = mode, id, id
		return h
	}
	dir := func(name string) member { return member{Typeflag: tar.TypeDir, Name: name} }
	for name, c := range map[string]struct {
		workdir string
		layer   []member
		modes   map[string]fs.FileMode
		owners  map[string]uint32
	}{
		"kept": {"/data", []member{
			with(dir("tmp"), 0o1777, 0), with(dir("run"), 0o775, 7), with(dir("data"), 0o2770, 8), with(regular("data/secret", "x"), 0o600, 8),
			with(regular("su", "x"), 0o4755, 0), with(symlink("data/link", "/absent"), 0o777, 8), with(dir("closed"), 0o555, 0), regular("closed/file", "x"),
		}, map[string]fs.FileMode{
			"tmp": fs.ModeDir | fs.ModeSticky | 0o777, "run": fs.ModeDir | 0o775, "data": fs.ModeDir | fs.ModeSetgid | 0o770, "data/secret": 0o600, "su": 0o755,
		}, map[string]uint32{"tmp": 0, "run": 7, "data": 8, "data/secret": 8, "data/link": 8}},
		"lacking": {"/work/here", []member{regular("etc/passwd", "")}, map[string]fs.FileMode{
			"tmp": fs.ModeDir | fs.ModeSticky | 0o777, "run": fs.ModeDir | 0o755, "work/here": fs.ModeDir | 0o755,
		}, nil},
		"behind links": {"/app/current/sub", []member{
			symlink("app/current", "/srv/v1"), symlink("tmp", "/var/tmp"), symlink("run", "var/run"), with(dir("var/run"), 0o700, 0),
		}, map[string]fs.FileMode{
			"srv/v1/sub": fs.ModeDir | 0o755, "var/tmp": fs.ModeDir | fs.ModeSticky | 0o777, "var/run": fs.ModeDir | 0o700,
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			blobs, root := newStore(t), t.TempDir()
			if _, err := (oci.Client{}).Install(t.Context(), blobs, configured(t, blobs, map[string]any{"WorkingDir": c.workdir}, c.layer), root); err != nil {
				t.Fatal(err)
			}
			for name, want := range c.modes {
				if st, err := os.Stat(filepath.Join(root, name)); err != nil || st.Mode() != want {
					t.Errorf("/%s: %v (%v), want %v", name, st, err, want)
				}
			}
			for name, want := range c.owners {
				if uid, err := ownerOf(filepath.Join(root, name)); os.Geteuid() == 0 && (err != nil || uid != want) {
					t.Errorf("/%s belongs to %d, want %d: %v", name, uid, want, err)
				}
			}
		})
	}
}

// TestUnpackHostile has layers that reach for what is beside the directory.
func TestUnpackHostile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("windows has not these links")
	}
	for name, c := range map[string]struct {
		members []member
		want    string // part of the error; empty for an image that is contained
	}{
		"dots":                 {[]member{regular("../beside", "x")}, `".."`},
		"dots in the middle":   {[]member{regular("a/../../beside", "x")}, `".."`},
		"absolute":             {[]member{regular("/beside", "x")}, ""},
		"relative link out":    {[]member{symlink("l", "../../.."), regular("l/beside", "x")}, ""},
		"absolute link":        {[]member{symlink("l", "/"), regular("l/beside", "x")}, ""},
		"file behind a link":   {[]member{symlink("l", "../beside"), regular("l", "x")}, ""},
		"hard link out":        {[]member{hardlink("l", "../kept")}, `".."`},
		"hard link by a link":  {[]member{symlink("l", ".."), hardlink("h", "l/kept")}, "it is not there"},
		"whiteout out":         {[]member{symlink("l", ".."), regular("l/.wh.kept", "")}, ""},
		"whiteout of dots":     {[]member{regular(".wh...", "")}, "names nothing"},
		"opaque out":           {[]member{symlink("l", ".."), regular("l/.wh..wh..opq", "")}, ""},
		"directory for a link": {[]member{symlink("l", ".."), {Typeflag: tar.TypeDir, Name: "l/", Mode: 0o777}}, ""},
		"unknown type":         {[]member{{Typeflag: 'Z', Name: "z"}}, "is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			around := t.TempDir()
			dir := filepath.Join(around, "image")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(around, "kept"), []byte("kept"), 0o600)); err != nil {
				t.Fatal(err)
			}
			blobs := newStore(t)
			_, err := oci.Client{}.Unpack(t.Context(), blobs, inChain(t, blobs, c.members), dir)
			if (err == nil) != (c.want == "") || err != nil && (fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v of kind %s, want %q", err, fault.KindOf(err), c.want)
			}
			beside, err := os.ReadDir(around)
			kept, readErr := os.ReadFile(filepath.Join(around, "kept"))
			if err != nil || readErr != nil || len(beside) != 2 || string(kept) != "kept" {
				t.Errorf("around the directory: %v, %q (%v, %v)", beside, kept, err, readErr)
			}
			if st, err := os.Stat(around); err != nil || st.Mode().Perm() == 0o777 {
				t.Errorf("the directory above: %v, %v", st.Mode(), err)
			}
		})
	}
}

// TestFollow finds what a process finds that has the directory for its root.
func TestFollow(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("windows has not these links")
	}
	dir := t.TempDir()
	for name, to := range map[string]string{
		"bin": "usr/bin", "usr/bin/python": "/etc/python", "etc/python": "../usr/bin/python3", "out": "../../../../usr", "round": "round", "up": "usr/lib/..", "lost": "/nowhere",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "usr", "lib"), 0o755), os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.Symlink(to, filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "usr/bin/python3"), []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	tree, err := oci.OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for name, want := range map[string]string{
		"/bin/python": "usr/bin/python3", "bin/python3": "usr/bin/python3", "out/bin/python": "usr/bin/python3", "up/bin/python3": "usr/bin/python3",
		"/": ".", "../..": ".", "usr/lib/../bin/.": "usr/bin", "bin/..": "usr", "up": "usr", "round": "!", "lost": "!", "usr/bin/python3/x": "!", "none": "!",
	} {
		real, info, err := tree.Follow(name)
		if err != nil {
			real = "!"
		} else if info == nil {
			t.Errorf("%s: nothing is said of it", name)
		}
		if real != want {
			t.Errorf("%s is %q (%v), want %q", name, real, err, want)
		}
	}
	if b, err := tree.ReadFile("bin/python", 100); err != nil || string(b) != "program" {
		t.Errorf("%q, %v", b, err)
	}
}
