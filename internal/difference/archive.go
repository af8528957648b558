package difference

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ultrafast-ci/ultrafast/steps/state"
)

const (
	maxMembers   = 100_000  // entries of one archive
	maxUnpacked  = 4 << 30  // bytes of one archive, unpacked
	maxText      = 1 << 20  // bytes of one file whose lines are compared
	maxDiffs     = 200      // files whose lines are compared
	maxDiffBytes = 16 << 20 // bytes of all of them
)

// budget is what may still be compared line by line.
type budget struct{ files, bytes int }

func (b *budget) take(n int) bool {
	if b.files == 0 || b.bytes < n {
		return false
	}
	b.files, b.bytes = b.files-1, b.bytes-n
	return true
}

// explain says how two artifacts of one name differ.
func (d *Artifact) explain(ctx context.Context, recorded, replayed state.Blobs, left *budget) (err error) {
	a, b := *d.Recorded, *d.Replayed
	if a.MediaType != b.MediaType {
		d.Note = fmt.Sprintf("media type %s -> %s", a.MediaType, b.MediaType)
		return nil
	}
	if a.Digest == b.Digest {
		d.Note = fmt.Sprintf("size %d -> %d", a.Size, b.Size)
		return nil
	}
	if isArchive(a.MediaType) {
		return d.archives(ctx, recorded, replayed, left)
	}
	if max(a.Size, b.Size) > maxText {
		d.Note = "too large to be compared line by line"
		return nil
	}
	was, err := state.ReadBlob(ctx, recorded, a)
	if err != nil {
		return err
	}
	is, err := state.ReadBlob(ctx, replayed, b)
	if err != nil {
		return err
	}
	if strings.HasSuffix(a.MediaType, "json") {
		if d.Fields, err = Documents(was, is); err == nil {
			if len(d.Fields) == 0 {
				d.Note = "the same fields, written in another way"
			}
			return nil
		}
	}
	d.Diff, err = diff(d.Name, was, is, left)
	return err
}

func isArchive(mediaType string) bool {
	return mediaType == state.MediaTypeTree || mediaType == state.MediaTypePackage || strings.Contains(mediaType, "tar")
}

// member is an entry of an archive without its content.
type member struct {
	kind   byte
	mode   int64
	uid    int
	gid    int
	time   time.Time
	link   string
	size   int64
	digest state.Digest
}

// archives compares two archives file by file: first what each has, then the lines
// of what differs.
func (d *Artifact) archives(ctx context.Context, recorded, replayed state.Blobs, left *budget) error {
	was, err := members(ctx, recorded, *d.Recorded)
	if err != nil {
		return fmt.Errorf("recorded: %w", err)
	}
	is, err := members(ctx, replayed, *d.Replayed)
	if err != nil {
		return fmt.Errorf("replayed: %w", err)
	}
	wantWas, wantIs := map[string]bool{}, map[string]bool{}
	for _, path := range names(was, is) {
		a, before := was[path]
		b, after := is[path]
		if before && after && a == b {
			continue
		}
		f := File{Path: path, Change: change(before, after)}
		f.Recorded, f.Replayed = describe(a, before, b, after)
		d.Files = append(d.Files, f)
		if a.digest != b.digest && max(a.size, b.size) <= maxText && a.file(before) && b.file(after) && left.take(int(a.size+b.size)) {
			wantWas[path], wantIs[path] = before, after
		}
	}
	if len(d.Files) == 0 {
		d.Note = "the same files, packed in another way"
		return nil
	}
	return d.lines(ctx, recorded, replayed, wantWas, wantIs)
}

// file reports whether the member can be compared line by line: what is not there can.
func (m member) file(there bool) bool { return !there || m.kind == tar.TypeReg }

func (d *Artifact) lines(ctx context.Context, recorded, replayed state.Blobs, wantWas, wantIs map[string]bool) error {
	was, err := contents(ctx, recorded, *d.Recorded, wantWas)
	if err != nil {
		return fmt.Errorf("recorded: %w", err)
	}
	is, err := contents(ctx, replayed, *d.Replayed, wantIs)
	if err != nil {
		return fmt.Errorf("replayed: %w", err)
	}
	for i := range d.Files {
		f := &d.Files[i]
		if _, asked := wantIs[f.Path]; !asked || f.Change == Removed {
			continue // of what is gone, that it is gone says all
		}
		if f.Diff, err = diff(f.Path, was[f.Path], is[f.Path], nil); err != nil {
			return err
		}
	}
	return nil
}

// describe says what differs of two members.
func describe(a member, before bool, b member, after bool) (was, is string) {
	var left, right []string
	add := func(differs bool, x, y string) {
		if differs || !before || !after {
			left, right = append(left, x), append(right, y)
		}
	}
	text := func(m member) [6]string {
		return [6]string{
			kindName(m.kind), fmt.Sprintf("%04o", m.mode), fmt.Sprintf("%d:%d", m.uid, m.gid),
			m.time.UTC().Format(time.RFC3339), "-> " + m.link, fmt.Sprintf("%d bytes %s", m.size, m.digest.Short()),
		}
	}
	x, y := text(a), text(b)
	add(a.kind != b.kind, x[0], y[0])
	add(a.mode != b.mode, x[1], y[1])
	for i := 2; i < len(x); i++ {
		if before && after {
			add(x[i] != y[i], x[i], y[i])
		}
	}
	if !before || !after {
		add(true, x[5], y[5])
	}
	if before {
		was = strings.Join(left, ", ")
	}
	if after {
		is = strings.Join(right, ", ")
	}
	return was, is
}

func kindName(kind byte) string {
	switch kind {
	case tar.TypeReg:
		return "file"
	case tar.TypeDir:
		return "directory"
	case tar.TypeSymlink:
		return "link"
	case tar.TypeLink:
		return "hard link"
	default:
		return fmt.Sprintf("entry of type %q", kind)
	}
}

func members(ctx context.Context, blobs state.Blobs, a state.Artifact) (map[string]member, error) {
	out := map[string]member{}
	err := walk(ctx, blobs, a, func(h *tar.Header, r io.Reader) error {
		hash := state.NewHasher()
		if _, err := io.Copy(hash, r); err != nil {
			return err
		}
		out[strings.TrimSuffix(h.Name, "/")] = member{
			kind: h.Typeflag, mode: h.Mode, uid: h.Uid, gid: h.Gid, time: h.ModTime, link: h.Linkname, size: h.Size, digest: hash.Digest(),
		}
		return nil
	})
	return out, err
}

// contents returns the bytes of the wanted members, each at most [maxText].
func contents(ctx context.Context, blobs state.Blobs, a state.Artifact, want map[string]bool) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := walk(ctx, blobs, a, func(h *tar.Header, r io.Reader) (err error) {
		if want[h.Name] {
			out[h.Name], err = io.ReadAll(io.LimitReader(r, maxText+1))
		}
		return err
	})
	return out, err
}

// walk visits the entries of an archive, which may be compressed.
func walk(ctx context.Context, blobs state.Blobs, a state.Artifact, visit func(*tar.Header, io.Reader) error) (err error) {
	blob, err := blobs.Open(ctx, a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	var r io.Reader = blob
	if strings.HasSuffix(a.MediaType, "gzip") {
		unzipped, err := gzip.NewReader(blob)
		if err != nil {
			return err
		}
		r = unzipped
	}
	tr := tar.NewReader(io.LimitReader(r, maxUnpacked))
	for n := 0; ; n++ {
		header, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("entry %d of the archive: %w", n+1, err)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case n == maxMembers:
			return fmt.Errorf("the archive has more than %d entries", maxMembers)
		}
		if err := visit(header, tr); err != nil {
			return fmt.Errorf("entry %d of the archive: %w", n+1, err)
		}
	}
}

// diff returns the difference of two texts, or where two binaries begin to differ.
// A nil budget was asked before.
func diff(name string, was, is []byte, left *budget) (string, error) {
	if !text(was) || !text(is) {
		return fmt.Sprintf("binary, first difference at byte %d\n", firstDifference(was, is)), nil
	}
	if left != nil && !left.take(len(was)+len(is)) {
		return "", nil
	}
	var b bytes.Buffer
	err := Unified(&b, name, name, was, is)
	return b.String(), err
}

func text(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// firstDifference returns the number of bytes that a and b have in common at their beginnings.
func firstDifference(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
