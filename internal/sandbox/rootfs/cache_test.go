package rootfs_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/sandbox/rootfs"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// TestMain makes the test binary a process that unpacks, where a test starts it so.
func TestMain(m *testing.M) {
	if ref := os.Getenv("ROOTFS_UNPACK"); ref != "" {
		os.Exit(unpackProcess(ref, os.Getenv("ROOTFS_CACHE")))
	}
	os.Exit(m.Run())
}

// unpackProcess unpacks an image, says where it is, and uses it until standard input ends.
func unpackProcess(ref, cache string) int {
	fmt.Println("begin")
	image, err := rootfs.New(rootfs.Options{Dir: cache}).Unpack(context.Background(), ref)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println("done", image.Dir)
	_, _ = io.Copy(io.Discard, os.Stdin)
	image.Release()
	return 0
}

// process is another process that unpacks.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
}

func start(t *testing.T, ref, cache string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ROOTFS_UNPACK="+ref, "ROOTFS_CACHE="+cache)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, in, bufio.NewScanner(out)}
	t.Cleanup(p.kill)
	return p
}

func (p *process) line() string {
	p.lines.Scan()
	return p.lines.Text()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// large returns an image whose unpacking takes a while.
func large(t testing.TB, files int) *img {
	t.Helper()
	var lower, upper []file
	for n := range files {
		lower = append(lower, reg(fmt.Sprintf("d%d/f%d", n%50, n), strings.Repeat(fmt.Sprint(n), 100)))
	}
	upper = append(upper, reg("last", "last"))
	return newImage(t, nil, pack(t, lower...), pack(t, upper...))
}

// TestTwoProcesses unpack one image at once: both get the same directory, unpacked once.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	ref, cache := one(t, large(t, 500)), t.TempDir()
	var all []*process
	for range 4 {
		all = append(all, start(t, ref, cache))
	}
	dirs := map[string]bool{}
	for _, p := range all {
		p.line()
		dirs[p.line()] = true
	}
	if len(dirs) != 1 {
		t.Errorf("%v", dirs)
	}
	for line := range dirs {
		place, ok := strings.CutPrefix(line, "done ")
		if !ok || len(listing(t, place)) != 500+50+1 {
			t.Errorf("%s", line)
		}
	}
	if left, _ := os.ReadDir(filepath.Join(cache, "work")); len(left) > 0 {
		t.Errorf("work holds %v", left)
	}
}

// TestKilled kills a process at many moments of its unpacking: what is in the cache
// afterwards is a whole image or none, and the rest is swept.
func TestKilled(t *testing.T) {
	t.Parallel()
	files, rounds, seen := 300, 6, 0
	if os.Getenv("ULTRAFAST_LONG") != "" {
		files, rounds = 3000, 100
	}
	i := large(t, files)
	ref := one(t, i)
	whole := files + 50 + 1
	for round := range rounds {
		cache := filepath.Join(t.TempDir(), "cache")
		p := start(t, ref, cache)
		p.line()
		// The moment is that at which so many files are there.
		work := filepath.Join(cache, "work", i.digest.Hex(), "image", "rootfs")
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			if n := count(work); n >= round*whole/rounds || published(cache, i.digest) {
				break
			}
		}
		p.kill()
		if !published(cache, i.digest) {
			seen++
		}
		images := rootfs.New(rootfs.Options{Dir: cache})
		if round%2 == 0 {
			if _, err := images.Prune(t.Context(), rootfs.DefaultMaxBytes, false); err != nil {
				t.Fatal(err)
			}
			if left, _ := os.ReadDir(filepath.Join(cache, "work")); len(left) > 0 {
				t.Errorf("round %d: work holds %v", round, left)
			}
		}
		image, err := images.Unpack(t.Context(), ref)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if got := count(image.Dir); got != whole {
			t.Errorf("round %d: %d files, want %d", round, got, whole)
		}
		image.Release()
	}
	if seen == 0 {
		t.Error("no process was killed before it was done")
	}
}

func published(cache string, d state.Digest) bool {
	_, err := os.Lstat(filepath.Join(cache, "images", d.Hex()))
	return err == nil
}

// count returns how many files lie below dir, however they change meanwhile.
func count(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != dir {
			n++
		}
		return nil
	})
	return n
}

// TestUsed: what a process uses stays, also when the cache is too large; what none
// uses goes, the longest unused first.
func TestUsed(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	images := rootfs.New(rootfs.Options{Dir: cache})
	var refs []string
	var digests []string
	for n := range 3 {
		i := newImage(t, nil, pack(t, reg("f", strings.Repeat(fmt.Sprint(n), 100_000))))
		refs = append(refs, one(t, i))
		digests = append(digests, string(i.digest))
		image, err := images.Unpack(t.Context(), refs[n])
		if err != nil {
			t.Fatal(err)
		}
		image.Release()
		then := time.Now().Add(time.Duration(n-10) * time.Hour)
		if err := os.Chtimes(filepath.Join(filepath.Dir(image.Dir), "image.json"), then, then); err != nil {
			t.Fatal(err)
		}
	}
	prune := func(maxBytes int64, all bool) []string {
		t.Helper()
		pruned, err := images.Prune(t.Context(), maxBytes, all)
		if err != nil {
			t.Fatal(err)
		}
		if len(pruned.Images) > 0 && pruned.Bytes < 100_000 {
			t.Errorf("%d bytes", pruned.Bytes)
		}
		return pruned.Images
	}
	if got := prune(1<<20, false); len(got) != 0 {
		t.Errorf("there is room, and %v was removed", got)
	}
	if got := prune(250_000, false); !slices.Equal(got, digests[:1]) {
		t.Errorf("removed %v, want the first of %v", got, digests)
	}
	user := start(t, refs[1], cache)
	user.line()
	user.line()
	if got := prune(0, true); !slices.Equal(got, digests[2:]) {
		t.Errorf("removed %v, want what nobody uses of %v", got, digests)
	}
	user.kill() // its use ends with it
	if got := prune(0, false); len(got) != 0 {
		t.Errorf("used in the last hour, and %v was removed", got)
	}
	if got := prune(0, true); !slices.Equal(got, digests[1:2]) {
		t.Errorf("removed %v, want %v", got, digests[1:2])
	}
}

// TestBound: a cache over its size loses what was not used for longest by itself.
func TestBound(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	images := rootfs.New(rootfs.Options{Dir: cache, MaxBytes: 150_000})
	for n := range 3 {
		image, err := images.Unpack(t.Context(), one(t, newImage(t, nil, pack(t, reg("f", strings.Repeat(fmt.Sprint(n), 100_000))))))
		if err != nil {
			t.Fatal(err)
		}
		image.Release()
		then := time.Now().Add(-2 * time.Hour)
		if err := os.Chtimes(filepath.Join(filepath.Dir(image.Dir), "image.json"), then, then); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(cache, "images")); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestNotWhole: after a start of the machine, files that a loss of power has emptied
// are found by their sizes.
func TestNotWhole(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	ref := one(t, newImage(t, nil, pack(t, reg("f", "content"), reg("g", "more"))))
	images := rootfs.New(rootfs.Options{Dir: cache})
	image := unpack(t, images, ref)
	image.Release()
	describe := filepath.Join(filepath.Dir(image.Dir), "image.json")
	for name, damage := range map[string]func() error{
		"none":  func() error { return nil },
		"empty": func() error { return os.Truncate(filepath.Join(image.Dir, "f"), 0) },
		"gone":  func() error { return os.Remove(filepath.Join(image.Dir, "g")) },
		"all":   func() error { return os.RemoveAll(image.Dir) },
		"half":  func() error { return os.Truncate(describe, 20) },
	} {
		b, err := os.ReadFile(describe)
		if err != nil {
			t.Fatal(err)
		}
		before := strings.Index(string(b), `"boot":"`) + len(`"boot":"`)
		b[before] = '?' // another start of the machine
		writeFile(t, describe, b)
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		again := unpack(t, images, ref)
		if got := listing(t, again.Dir); !maps.Equal(got, map[string]string{"f": "content", "g": "more"}) {
			t.Errorf("%s: %v", name, got)
		}
		again.Release()
	}
}

// TestManyAtOnce unpacks one image from many goroutines and prunes meanwhile.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	ref := one(t, large(t, 100))
	images := rootfs.New(rootfs.Options{Dir: t.TempDir()})
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			image, err := images.Unpack(t.Context(), ref)
			if err != nil {
				t.Error(err)
				return
			}
			if n := count(image.Dir); n != 151 {
				t.Errorf("%d files", n)
			}
			image.Release()
			image.Release()
			if _, err := images.Prune(t.Context(), 0, true); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
}

func BenchmarkCached(b *testing.B) {
	ref := one(b, large(b, 100))
	images := rootfs.New(rootfs.Options{Dir: b.TempDir()})
	for b.Loop() {
		image, err := images.Unpack(b.Context(), ref)
		if err != nil {
			b.Fatal(err)
		}
		image.Release()
	}
}

// BenchmarkUnpack unpacks the images of build/services, without the cache.
func BenchmarkUnpack(b *testing.B) {
	const services = "../../../build/services"
	if _, err := os.Stat(services); err != nil {
		b.Skip("make service-images makes what is unpacked here")
	}
	for _, name := range []string{"busybox:1", "redis:7", "postgres:15"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				images := rootfs.New(rootfs.Options{Dir: b.TempDir(), Registry: "layout:" + services})
				ref, err := images.Resolve(b.Context(), name)
				if err != nil {
					b.Fatal(err)
				}
				image, err := images.Unpack(b.Context(), ref.String())
				if err != nil {
					b.Fatal(err)
				}
				image.Release()
			}
		})
	}
}
