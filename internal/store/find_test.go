package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// TestFind: a registry finds whole digests of entries, a directory every name.
func TestFind(t *testing.T) {
	t.Parallel()
	eachPlace(t, func(t *testing.T, p place) {
		s := open(t, p.url())
		var chain state.State
		for i := range 40 {
			chain = append(chain, appendTo(t, s, chain, blob(t, s, "tree", fmt.Sprint("content ", i))))
		}
		entry := chain[3].Digest
		for _, text := range []string{string(entry), entry.Hex()} {
			if found, err := s.Find(t.Context(), text); err != nil || found != entry {
				t.Errorf("%s: %s, %v", text, found, err)
			}
		}
		artifact := chain[5].Entry.Artifacts[0].Digest
		_, directory := p.(directory)
		for _, c := range []struct {
			text string
			want state.Digest
		}{{entry.Hex()[:12], entry}, {"sha256:" + entry.Hex()[:12], entry}, {artifact.Hex(), chain[5].Digest}, {artifact.Hex()[:12], chain[5].Digest}} {
			found, err := s.Find(t.Context(), c.text)
			if directory && (err != nil || found != c.want) || !directory && fault.KindOf(err) != fault.Usage {
				t.Errorf("%s: %s, %v", c.text, found, err)
			}
		}
		for text, want := range map[string]fault.Kind{
			"": fault.Usage, "abc": fault.Usage, "xyzw": fault.Usage, "ABCDEF": fault.Usage, "../../etc": fault.Usage,
			strings.Repeat("a", 65): fault.Usage, "sha512:abcd": fault.Usage,
		} {
			if _, err := s.Find(t.Context(), text); fault.KindOf(err) != want {
				t.Errorf("%q: %v", text, err)
			}
		}
		if !directory {
			return
		}
		if _, err := s.Find(t.Context(), strings.Repeat("0", 64)); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("unknown: %v", err)
		}
	})
}

// TestFindAmbiguous: of several entries with one beginning none is guessed.
func TestFindAmbiguous(t *testing.T) {
	t.Parallel()
	s := open(t, "layout:"+t.TempDir())
	first := map[string]state.Digest{}
	for i := 0; ; i++ { // about 300 entries have two with the same four digits
		link := appendTo(t, s, nil, blob(t, s, "tree", fmt.Sprint("content ", i)))
		prefix := link.Digest.Hex()[:4]
		other, twice := first[prefix]
		if first[prefix] = link.Digest; !twice {
			continue
		}
		_, err := s.Find(t.Context(), prefix)
		if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), other.Hex()) || !strings.Contains(err.Error(), link.Digest.Hex()) {
			t.Errorf("%v", err)
		}
		return
	}
}
