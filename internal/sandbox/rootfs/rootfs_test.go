package rootfs_test

import (
	"archive/tar"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/internal/oci/ocitest"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/sandbox"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

func newImages(t testing.TB, change ...func(*rootfs.Options)) *rootfs.Images {
	t.Helper()
	o := rootfs.Options{Dir: filepath.Join(t.TempDir(), "cache")}
	for _, f := range change {
		f(&o)
	}
	return rootfs.New(o)
}

func unpack(t testing.TB, images *rootfs.Images, ref string) sandbox.Image {
	t.Helper()
	image, err := images.Unpack(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(image.Release)
	return image
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	lower := pack(t,
		dir("etc/"), reg("etc/passwd", "root:x:0:0::/:/bin/sh\npostgres:x:70:71::/:/bin/sh\n"), reg("etc/group", "root:x:0:\ndb:x:72:postgres\n"),
		dir("usr/"), dir("usr/bin/"), reg("usr/bin/tool", "old"), link("bin", "usr/bin"), link("var/run", "/run"),
		reg("usr/lib/gone", "x"), reg("usr/share/all/a", "a"), reg("usr/share/all/b", "b"), reg("usr/share/all/sub/c", "c"),
		hard("usr/bin/same", "usr/bin/tool"),
	)
	upper := pack(t,
		reg("usr/bin/tool", "new"), reg("bin/more", "more"), reg("var/run/pid", "1"), reg("usr/lib/.wh.gone", ""),
		reg("usr/share/all/new", "n"), reg("usr/share/all/.wh..wh..opq", ""), reg("./dot/file", "."), reg("/abs/file", "/"),
		reg("usr/share/.wh..wh.plnk", ""),
	)
	i := newImage(t, map[string]any{
		"User": "postgres:db", "Env": []string{"A=1"}, "Entrypoint": []string{"/bin/tool"}, "Cmd": []string{"x"}, "WorkingDir": "/data",
		"Volumes": map[string]any{"/z": struct{}{}, "/data": struct{}{}}, "ExposedPorts": map[string]any{"6379/tcp": struct{}{}, "5432/tcp": struct{}{}},
	}, lower, upper)
	image := unpack(t, newImages(t), one(t, i))
	want := map[string]string{
		"etc": "dir", "etc/passwd": string("root:x:0:0::/:/bin/sh\npostgres:x:70:71::/:/bin/sh\n"), "etc/group": "root:x:0:\ndb:x:72:postgres\n",
		"usr": "dir", "usr/bin": "dir", "usr/bin/tool": "new", "usr/bin/same": "old", "usr/bin/more": "more", "bin": "-> usr/bin",
		"var": "dir", "var/run": "-> /run", "run": "dir", "run/pid": "1", "usr/lib": "dir", "usr/share": "dir", "usr/share/all": "dir",
		"usr/share/all/new": "n", "dot": "dir", "dot/file": ".", "abs": "dir", "abs/file": "/",
	}
	if got := listing(t, image.Dir); !maps.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	wantConfig := sandbox.ImageConfig{
		Entrypoint: []string{"/bin/tool"}, Cmd: []string{"x"}, Env: []string{"A=1"}, WorkingDir: "/data", UID: 70, GID: 72,
		Volumes: []string{"/data", "/z"}, Ports: []string{"5432/tcp", "6379/tcp"},
	}
	if !reflect.DeepEqual(image.Config, wantConfig) || image.Digest != string(i.digest) {
		t.Errorf("%s %+v, want %+v", image.Digest, image.Config, wantConfig)
	}
}

// TestModes: everybody can read, nobody but the caller can write, nothing gives
// rights, whatever the umask of the process.
func TestModes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("windows has no modes")
	}
	with := func(f file, mode int64) file { f.Mode = mode; return f }
	image := unpack(t, newImages(t), one(t, newImage(t, nil, pack(t,
		with(dir("secret/"), 0o700), with(reg("secret/key", "k"), 0o600), with(reg("su", "s"), 0o4755), with(reg("open", "o"), 0o666),
		with(dir("tmp/"), 0o1777), with(dir("locked/"), 0o500), reg("locked/in", "x"), with(reg("run", "r"), 0o100),
	))))
	for name, want := range map[string]os.FileMode{
		"": os.ModeDir | 0o755, "secret": os.ModeDir | 0o755, "secret/key": 0o644, "su": 0o755, "open": 0o644,
		"tmp": os.ModeDir | 0o755, "locked": os.ModeDir | 0o755, "run": 0o755,
	} {
		info, err := os.Lstat(filepath.Join(image.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("/%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
	info, err := os.Stat(filepath.Join(image.Dir, "run"))
	if err != nil || !info.ModTime().Equal(time.Unix(1_000_000, 0)) {
		t.Errorf("time %v, %v", info.ModTime(), err)
	}
	if outer, err := os.Stat(filepath.Dir(image.Dir)); err != nil || outer.Mode().Perm() != 0o700 {
		t.Errorf("other users of the machine reach the cache: %v, %v", outer.Mode(), err)
	}
}

func TestUser(t *testing.T) {
	t.Parallel()
	files := pack(t, link("etc/passwd", "../lib/users"), reg("lib/users", "root:x:0:0::/:\nweb:x:33:34::/:\nbad\n99:x:5:6::/:\n"), reg("etc/group", "root:x:0:\nwww:x:35:\n"))
	for _, c := range []struct {
		user     string
		uid, gid int
		wrong    bool
	}{
		{"", 0, 0, false}, {"root", 0, 0, false}, {"web", 33, 34, false}, {"web:www", 33, 35, false}, {"33", 33, 34, false},
		{"1000", 1000, 0, false}, {"1000:1001", 1000, 1001, false}, {"web:7", 33, 7, false}, {"7:www", 7, 35, false}, {"99", 5, 6, false},
		{"nobody", 0, 0, true}, {"web:none", 0, 0, true}, {"-1", 0, 0, true}, {"4294967296", 0, 0, true}, {"web:", 0, 0, true}, {":", 0, 0, true},
	} {
		image, err := newImages(t).Unpack(t.Context(), one(t, newImage(t, map[string]any{"User": c.user}, files)))
		if c.wrong {
			if fault.KindOf(err) != fault.Finding {
				t.Errorf("%q: %v", c.user, err)
			}
			continue
		}
		if err != nil || image.Config.UID != c.uid || image.Config.GID != c.gid {
			t.Errorf("%q: %d:%d, want %d:%d: %v", c.user, image.Config.UID, image.Config.GID, c.uid, c.gid, err)
		}
		if err == nil {
			image.Release()
		}
	}
}

// TestHostile holds what archives try; none may leave the tree, and each is either
// refused or means what it means inside.
func TestHostile(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	writeFile(t, secret, []byte("secret"))
	up := strings.Repeat("../", 40)
	for name, c := range map[string]struct {
		entries []file
		want    string            // part of the finding; empty: it is unpacked
		files   map[string]string // some of what is then there
	}{
		"parent":                    {[]file{reg("../../x", "x")}, `".."`, nil},
		"parent inside":             {[]file{reg("a/../../x", "x")}, `".."`, nil},
		"parent at the end":         {[]file{dir("a/..")}, `".."`, nil},
		"absolute":                  {[]file{reg(secret, "x")}, "", map[string]string{strings.TrimPrefix(secret, "/"): "x"}},
		"through absolute link":     {[]file{link("l", outside), reg("l/secret", "x")}, "", map[string]string{strings.TrimPrefix(secret, "/"): "x"}},
		"through climbing link":     {[]file{link("l", up+outside), reg("l/secret", "x")}, "", map[string]string{strings.TrimPrefix(secret, "/"): "x"}},
		"file through file link":    {[]file{link("l", secret), reg("l", "x")}, "", map[string]string{"l": "x"}},
		"swapped directory":         {[]file{dir("d/"), reg("d/a", "a"), link("d", outside), reg("d/secret", "x")}, "", map[string]string{"d": "-> " + outside, strings.TrimPrefix(secret, "/"): "x"}},
		"link to itself":            {[]file{link("l", "l"), reg("l/x", "x")}, "too many links", nil},
		"circle of links":           {[]file{link("a", "b"), link("b", "a"), reg("a/x", "x")}, "too many links", nil},
		"link to nothing":           {[]file{link("l", "gone/deep"), reg("l/x", "x")}, "", map[string]string{"gone/deep/x": "x"}},
		"hard link out":             {[]file{hard("h", up+secret)}, `".."`, nil},
		"hard link by absolute":     {[]file{hard("h", secret)}, "not there", nil},
		"hard link through link":    {[]file{link("l", outside), hard("h", "l/secret")}, "not there", nil},
		"hard link to link":         {[]file{link("l", secret), hard("h", "l"), reg("h", "x")}, "", map[string]string{"h": "x", "l": "-> " + secret}},
		"hard link to directory":    {[]file{dir("d/"), hard("h", "d")}, "directory", nil},
		"hard link to itself":       {[]file{reg("f", "f"), hard("f", "./f")}, "", map[string]string{"f": "f"}},
		"hard link to root":         {[]file{hard("h", "/")}, "directory", nil},
		"file over hard link":       {[]file{reg("a", "a"), hard("b", "a"), reg("b", "b")}, "", map[string]string{"a": "a", "b": "b"}},
		"device":                    {[]file{{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8}, {Typeflag: tar.TypeChar, Name: "null"}, {Typeflag: tar.TypeFifo, Name: "p"}, reg("f", "f")}, "", map[string]string{"f": "f"}},
		"below a file":              {[]file{reg("f", "f"), reg("f/x", "x")}, "below a file", nil},
		"directory over file":       {[]file{reg("f", "f"), dir("f/"), reg("f/x", "x")}, "", map[string]string{"f/x": "x"}},
		"file over directory":       {[]file{reg("d/x", "x"), reg("d", "f")}, "", map[string]string{"d": "f"}},
		"duplicate":                 {[]file{reg("f", "one"), reg("f", "two")}, "", map[string]string{"f": "two"}},
		"root itself":               {[]file{dir("./"), dir("/"), reg("f", "f")}, "", map[string]string{"f": "f"}},
		"root as file":              {[]file{reg(".", "")}, "", nil},
		"root as link":              {[]file{link("/", outside), reg("secret", "x")}, "", map[string]string{"secret": "x"}},
		"whiteout of parent":        {[]file{reg("d/.wh...", "")}, "whiteout", nil},
		"whiteout of dot":           {[]file{reg("d/.wh..", "")}, "whiteout", nil},
		"whiteout of nothing":       {[]file{reg("d/.wh.", "")}, "whiteout", nil},
		"whiteout through link":     {[]file{link("l", outside), reg("l/.wh.secret", "")}, "", nil},
		"opaque through link":       {[]file{link("l", outside), reg("l/.wh..wh..opq", "")}, "", nil},
		"opaque through climb":      {[]file{link("l", up+outside), reg("l/.wh..wh..opq", "")}, "", nil},
		"whiteout of its own layer": {[]file{reg("f", "f"), reg(".wh.f", "")}, "", map[string]string{"f": "f"}},
		"long name":                 {[]file{reg(strings.Repeat("n", 300), "x")}, "", nil},
		"long path":                 {[]file{reg(strings.Repeat("d/", 2100)+"x", "x")}, "longer than", nil},
		"deep path":                 {[]file{reg(strings.Repeat("d/", 200)+"x", "x")}, "too deep", nil},
		"unknown type":              {[]file{{Typeflag: 'Z', Name: "f"}}, "unknown", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			image, err := newImages(t).Unpack(t.Context(), one(t, newImage(t, nil, pack(t, c.entries...))))
			if name == "long name" {
				if fault.KindOf(err) != fault.Finding {
					t.Errorf("%v", err)
				}
				return
			}
			if c.want != "" {
				if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want a finding about %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer image.Release()
			got := listing(t, image.Dir)
			for path, want := range c.files {
				if got[path] != want {
					t.Errorf("/%s is %q, want %q; all: %v", path, got[path], want, slices.Sorted(maps.Keys(got)))
				}
			}
		})
	}
	t.Cleanup(func() {
		if got := listing(t, outside); !maps.Equal(got, map[string]string{"secret": "secret"}) {
			t.Errorf("outside there is %v", got)
		}
	})
}

func TestWhiteouts(t *testing.T) {
	t.Parallel()
	lower := pack(t, reg("a/x", "low"), reg("a/y", "low"), reg("a/sub/z", "low"), reg("b", "low"), link("c", "/a"))
	for name, c := range map[string]struct {
		upper []file
		want  map[string]string
	}{
		"one":                      {[]file{reg("a/.wh.x", "")}, map[string]string{"a": "dir", "a/y": "low", "a/sub": "dir", "a/sub/z": "low", "b": "low", "c": "-> /a"}},
		"a directory":              {[]file{reg(".wh.a", "")}, map[string]string{"b": "low", "c": "-> /a"}},
		"then made again":          {[]file{reg(".wh.a", ""), reg("a/n", "up")}, map[string]string{"a": "dir", "a/n": "up", "b": "low", "c": "-> /a"}},
		"made before":              {[]file{reg("a/n", "up"), reg(".wh.a", "")}, map[string]string{"a": "dir", "a/n": "up", "b": "low", "c": "-> /a"}},
		"opaque, last":             {[]file{reg("a/sub/n", "up"), reg("a/.wh..wh..opq", "")}, map[string]string{"a": "dir", "a/sub": "dir", "a/sub/n": "up", "b": "low", "c": "-> /a"}},
		"opaque root":              {[]file{reg("n", "up"), reg(".wh..wh..opq", "")}, map[string]string{"n": "up"}},
		"the link, not its target": {[]file{reg(".wh.c", "")}, map[string]string{"a": "dir", "a/x": "low", "a/y": "low", "a/sub": "dir", "a/sub/z": "low", "b": "low"}},
		"through the link":         {[]file{reg("c/.wh.x", ""), reg("c/.wh.sub", "")}, map[string]string{"a": "dir", "a/y": "low", "b": "low", "c": "-> /a"}},
		"of what is not there":     {[]file{reg("no/.wh.x", ""), reg("a/.wh.no", "")}, map[string]string{"a": "dir", "a/x": "low", "a/y": "low", "a/sub": "dir", "a/sub/z": "low", "b": "low", "c": "-> /a"}},
	} {
		image := unpack(t, newImages(t), one(t, newImage(t, nil, lower, pack(t, c.upper...))))
		if got := listing(t, image.Dir); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	small := oci.Limits{Entries: 10, Bytes: 1 << 20}
	var many []file
	for n := range 11 {
		many = append(many, dir("d"+string(rune('a'+n))+"/"))
	}
	tail := append(pack(t, reg("f", "x")), make([]byte, 2<<20)...)
	for name, c := range map[string]struct {
		image  *img
		limits oci.Limits
		want   string
	}{
		"entries":              {newImage(t, nil, pack(t, many[:6]...), pack(t, many[6:]...)), small, "more than 10 entries"},
		"bytes":                {newImage(t, nil, pack(t, reg("zero", strings.Repeat("\x00", 1<<20)))), small, "more than 1048576 bytes"},
		"bytes after the mark": {newImage(t, nil, tail), small, "more than 1048576 bytes"},
		"holes":                {newImage(t, nil, sparse(300<<20)), oci.Limits{}, "200 times its size"},
		"more holes":           {newImage(t, nil, sparse(17<<30)), oci.Limits{}, "more than 17179869184 bytes"},
	} {
		i := newImages(t, func(o *rootfs.Options) { o.Limits = c.limits })
		_, err := i.Unpack(t.Context(), one(t, c.image))
		if fault.KindOf(err) != fault.Finding || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// sparse returns a tar with a file of which all but 512 bytes are holes, in the form
// of GNU tar.
func sparse(size int64) []byte {
	b := make([]byte, 512)
	copy(b, "holes")
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00        S", 512, 0))
	copy(b[257:], "ustar  \x00")
	copy(b[386:], fmt.Sprintf("%011o\x00%011o\x00", size-512, 512))
	for i := range 12 { // the real size, in base 256
		b[483+i] = byte(size >> (8 * (11 - i)))
	}
	b[483] |= 0x80
	var sum int64
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return append(b, make([]byte, 3*512)...)
}

// TestDamaged changes each part of an image.
func TestDamaged(t *testing.T) {
	t.Parallel()
	files := pack(t, reg("f", "f"), reg("g", strings.Repeat("g", 1<<20)))
	for name, damage := range map[string]func(i *img, dir string){
		"layer, one bit": func(i *img, dir string) { flip(t, dir, i.blobs[0]) },
		"layer, shorter": func(i *img, dir string) { cut(t, dir, i.blobs[0], len(i.blobs[0])-1) },
		"layer, empty":   func(i *img, dir string) { cut(t, dir, i.blobs[0], 0) },
		"layer, longer": func(i *img, dir string) {
			writeFile(t, blobPath(dir, i.blobs[0]), append(slices.Clone(i.blobs[0]), 0))
		},
		"layer, gone":   func(i *img, dir string) { _ = os.Remove(blobPath(dir, i.blobs[0])) },
		"manifest":      func(i *img, dir string) { flip(t, dir, i.manifest) },
		"manifest gone": func(i *img, dir string) { _ = os.Remove(blobPath(dir, i.manifest)) },
		"config":        func(i *img, dir string) { flip(t, dir, i.parts(t)[0]) },
	} {
		i := newImage(t, nil, files)
		dir := layout(t, map[string]*img{"x": i})
		damage(i, dir)
		images := newImages(t)
		_, err := images.Unpack(t.Context(), "layout:"+dir+"@"+string(i.digest))
		if fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %v (%v)", name, err, fault.KindOf(err))
		}
		if _, err := images.Unpack(t.Context(), "layout:"+t.TempDir()+"@"+string(i.digest)); err == nil {
			t.Errorf("%s: a damaged image is in the cache", name)
		}
	}
	wrong := newImage(t, nil, files)
	wrong.tars[0] = pack(t, reg("other", "x"))
	swapped := newImage(t, nil, files)
	swapped.types[0] = typePlain
	strange := newImage(t, nil, files)
	strange.types[0] = "application/x-rpm"
	random := newImage(t, nil, []byte(strings.Repeat("no tar", 1000)))
	short := newImage(t, nil, files[:3000])
	for name, i := range map[string]*img{"another tar than the config says": wrong, "plain that is gzip": swapped, "unknown type": strange, "no tar": random, "half a tar": short} {
		if _, err := newImages(t).Unpack(t.Context(), one(t, i)); fault.KindOf(err) != fault.Finding {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func blobPath(dir string, b []byte) string {
	return filepath.Join(dir, "blobs", "sha256", state.DigestOf(b).Hex())
}

func flip(t *testing.T, dir string, b []byte) {
	t.Helper()
	changed := slices.Clone(b)
	changed[len(changed)/2] ^= 1
	writeFile(t, blobPath(dir, b), changed)
}

func cut(t *testing.T, dir string, b []byte, n int) {
	t.Helper()
	writeFile(t, blobPath(dir, b), b[:n])
}

// TestFormats unpacks one tree from plain, gzip and zstd layers.
func TestFormats(t *testing.T) {
	t.Parallel()
	content := pack(t, reg("f", strings.Repeat("content ", 100_000)))
	plain := newImage(t, nil, content, pack(t))
	plain.blobs[0], plain.types[0] = content, typePlain
	packed := newImage(t, nil, content, pack(t))
	packed.types[0] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	zstd := newImage(t, nil, content, pack(t))
	zstd.blobs[0], zstd.types[0] = ocitest.Zstd(t, content), typeZstd
	for name, i := range map[string]*img{"plain": plain, "gzip": packed, "zstd": zstd} {
		image := unpack(t, newImages(t), one(t, i))
		if got := listing(t, image.Dir); len(got) != 1 || len(got["f"]) != 800_000 {
			t.Errorf("%s: %d files, %d bytes", name, len(got), len(got["f"]))
		}
	}
}

// TestRegistry resolves and unpacks from a real registry that asks for a password,
// then works without it.
func TestRegistry(t *testing.T) {
	t.Parallel()
	registry := ocitest.New(t, ocitest.WithPassword("mona", "secret"))
	credentials := func(host string) (string, string, bool) { return "mona", "secret", host == registry.Host }
	i := newImage(t, nil, pack(t, reg("a", "a")), pack(t, reg("b", "b")), pack(t, reg("a", "a")))
	index := push(t, registry, i, "team/app", "v1", credentials)
	cache, lockFile := t.TempDir(), filepath.Join(t.TempDir(), rootfs.LockName)
	images := rootfs.New(rootfs.Options{Dir: cache, Registry: registry.Host, LockFile: lockFile, Credentials: credentials})

	ref, err := images.Resolve(t.Context(), "team/app:v1")
	if err != nil || ref.Digest != index {
		t.Fatalf("%s, want %s: %v", ref, index, err)
	}
	image := unpack(t, images, ref.String())
	if got := listing(t, image.Dir); len(got) != 2 || image.Digest != string(i.digest) {
		t.Errorf("%s: %v", image.Digest, got)
	}
	asked := registry.Requests()
	again := rootfs.New(rootfs.Options{Dir: cache, Registry: registry.Host, LockFile: lockFile})
	if ref, err = again.Resolve(t.Context(), "team/app:v1"); err != nil || ref.Digest != index {
		t.Errorf("by the lock file: %s, %v", ref, err)
	}
	unpack(t, again, ref.String())
	if registry.Requests() != asked {
		t.Errorf("the registry was asked %d times for what is locked and cached", registry.Requests()-asked)
	}
	for name, c := range map[string]struct {
		text string
		want fault.Kind
	}{
		"no password": {"team/app:v2", fault.Usage}, "no tag": {"team/app:v3", fault.Finding},
	} {
		from := images
		if name == "no password" {
			from = again
		}
		if _, err := from.Resolve(t.Context(), c.text); fault.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCorruptRegistry: a registry that lies about each blob is found out, and the
// next, honest answer is taken.
func TestCorruptRegistry(t *testing.T) {
	t.Parallel()
	registry := ocitest.New(t)
	i := newImage(t, nil, pack(t, reg("a", strings.Repeat("a", 1<<20))), pack(t, reg("b", "b")))
	index := push(t, registry, i, "app", "v1", nil)
	images := newImages(t)
	ref := registry.Host + "/app@" + string(index)
	for n, part := range append(i.parts(t), i.index(t)) {
		digest := state.DigestOf(part)
		if n == len(i.parts(t)) {
			digest = index
		}
		for name, lie := range map[string]func([]byte) []byte{
			"a bit":   func(b []byte) []byte { b = slices.Clone(b); b[len(b)/2] ^= 1; return b },
			"shorter": func(b []byte) []byte { return b[:len(b)-1] },
			"longer":  func(b []byte) []byte { return append(slices.Clone(b), ' ') },
			"empty":   func([]byte) []byte { return nil },
		} {
			registry.Change(string(digest), lie)
			image, err := images.Unpack(t.Context(), ref)
			if fault.KindOf(err) != fault.Finding {
				t.Errorf("part %d, %s: %v (%v)", n, name, err, fault.KindOf(err))
			}
			if err == nil {
				image.Release()
			}
		}
		registry.Change(string(digest), nil)
	}
	unpack(t, images, ref)
}

func TestPullTimeout(t *testing.T) {
	t.Parallel()
	registry := ocitest.New(t)
	i := newImage(t, nil, pack(t, reg("a", "a")))
	index := push(t, registry, i, "app", "v1", nil)
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })
	registry.Change(string(state.DigestOf(i.blobs[0])), func(b []byte) []byte { <-stuck; return b })
	images := newImages(t, func(o *rootfs.Options) { o.PullTimeout = 300 * time.Millisecond })
	_, err := images.Unpack(t.Context(), registry.Host+"/app@"+string(index))
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "took longer than 300ms") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := images.Unpack(ctx, registry.Host+"/app@"+string(index)); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("cancelled: %v (%v)", err, fault.KindOf(err))
	}
}

func TestLockFile(t *testing.T) {
	t.Parallel()
	registry := ocitest.New(t)
	lockFile := filepath.Join(t.TempDir(), rootfs.LockName)
	first := push(t, registry, newImage(t, nil, pack(t, reg("v", "1"))), "app", "v1", nil)
	at := func(environment string, always bool) *rootfs.Images {
		return newImages(t, func(o *rootfs.Options) {
			o.Registry, o.LockFile, o.Environment, o.AlwaysPull = registry.Host, lockFile, environment, always
		})
	}
	resolve := func(i *rootfs.Images, text string) string {
		t.Helper()
		ref, err := i.Resolve(t.Context(), text)
		if err != nil {
			return fault.KindOf(err).String() + ": " + err.Error()
		}
		return string(ref.Digest)
	}
	if got := resolve(at("production", false), "app:v1"); !strings.HasPrefix(got, "finding") {
		t.Errorf("not locked, for production: %s", got)
	}
	if got := resolve(at("development", false), "app:v1"); got != string(first) {
		t.Errorf("resolved to %s, want %s", got, first)
	}
	second := push(t, registry, newImage(t, nil, pack(t, reg("v", "2"))), "app", "v1", nil)
	push(t, registry, newImage(t, nil, pack(t, reg("v", "3"))), "app", "latest", nil)
	for _, c := range []struct {
		environment string
		always      bool
		text        string
		want        string
	}{
		{"development", false, "app:v1", string(first)},
		{"production", false, "app:v1", string(first)},
		{"production", true, "app:v1", string(first)},
		{"staging", false, "app:latest", "finding"},
		{"staging", false, "app", "finding"},
		{"development", true, "app:v1", string(second)},
		{"development", false, "app:v1", string(second)},
		{"production", false, "app@" + string(first), string(first)},
	} {
		if got := resolve(at(c.environment, c.always), c.text); !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %s", c, got)
		}
	}
	b, err := os.ReadFile(lockFile)
	want := "# Written by cleanroom-test; keep it in version control. An entry that is removed is looked up again.\nversion = 1\n\n" +
		"[[image]]\nreference = \"" + registry.Host + "/app:v1\"\ndigest = \"" + string(second) + "\"\n"
	if err != nil || string(b) != want {
		t.Errorf("lock file %s, want %s: %v", b, want, err)
	}
	for _, bad := range []string{
		"x", "version = 2\n", "version = 1\nx = 1\n", "version = 1\n[[image]]\nreference = \"app\"\ndigest = \"" + string(first) + "\"\n",
		"version = 1\n[[image]]\nreference = \"docker.io/library/app:v1\"\ndigest = \"sha256:1\"\n",
		"version = 1\n" + strings.Repeat("[[image]]\nreference = \"docker.io/library/app:v1\"\ndigest = \""+string(first)+"\"\n", 2),
	} {
		writeFile(t, lockFile, []byte(bad))
		if got := resolve(at("", false), "app:v1"); !strings.HasPrefix(got, "usage") || !strings.Contains(got, rootfs.LockName) {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	a, b := newImage(t, nil, pack(t, reg("a", "a"))), newImage(t, nil, pack(t, reg("b", "b")))
	both := layout(t, map[string]*img{"postgres:15": a, "redis:7": b})
	single := layout(t, map[string]*img{"": a})
	images := newImages(t, func(o *rootfs.Options) { o.Registry = "layout:" + both })
	for text, want := range map[string]state.Digest{
		"postgres": a.digest, "redis": b.digest, "layout:" + both + "#redis:7": b.digest, "layout:" + single: a.digest,
	} {
		ref, err := images.Resolve(t.Context(), text)
		if err != nil || ref.Digest != want {
			t.Errorf("%s: %s, want %s: %v", text, ref, want, err)
			continue
		}
		unpack(t, images, ref.String())
	}
	for text, want := range map[string]fault.Kind{
		"postgres:16": fault.Finding, "layout:" + both: fault.Usage, "layout:" + t.TempDir(): fault.Finding, "tarball:/none": fault.Finding,
	} {
		if _, err := images.Resolve(t.Context(), text); fault.KindOf(err) != want || fault.HintOf(err) == "" {
			t.Errorf("%s: %v (%v, hint %q)", text, err, fault.KindOf(err), fault.HintOf(err))
		}
	}
	if _, err := images.Unpack(t.Context(), "postgres"); fault.KindOf(err) != fault.Usage {
		t.Errorf("not pinned: %v", err)
	}
}
