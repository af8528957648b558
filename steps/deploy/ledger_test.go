package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ultrafast-ci/ultrafast/internal/rollout"
)

// tick is a clock that stands still.
type tick struct{}

func (tick) Now() time.Time { return time.Unix(1e9, 0) }

func TestGood(t *testing.T) {
	t.Parallel()
	up := func(release string) Record {
		return Record{Action: ActionDeploy, Outcome: rollout.Promoted, Release: release}
	}
	back := func(release, restores string) Record {
		return Record{Action: ActionRollback, Outcome: rollout.Promoted, Release: release, Restores: restores}
	}
	failed := Record{Action: ActionDeploy, Outcome: rollout.Reverted, Release: "bad"}
	down := Record{Action: ActionDown, Outcome: Stopped}
	for want, history := range map[string][]Record{
		"":      {},
		"a b":   {up("a"), failed, up("b")},
		"c":     {up("a"), up("b"), back("c", "a")},
		"a d":   {up("a"), up("b"), up("c"), back("d", "b")},
		"e":     {up("a"), up("b"), up("c"), back("d", "b"), back("e", "a")},
		"c f":   {up("a"), up("b"), back("c", "a"), up("f")},
		"z":     {up("a"), up("b"), down, up("z")},
		"a b x": {up("a"), up("b"), back("x", "gone")},
	} {
		var got []string
		for _, r := range good(history) {
			got = append(got, r.Release)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("good releases are %q, not %q", got, want)
		}
	}
}

// TestTornJournal: a line that was being written does not count, and the next
// one takes its place.
func TestTornJournal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "journal.jsonl")
	j := journal{path}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(j.Append(context.Background(), rollout.Record{State: rollout.Begun, Plan: &rollout.Plan{New: "a"}}))
	must(j.Append(context.Background(), rollout.Record{State: rollout.Prepare}))
	whole, err := os.ReadFile(path)
	must(err)
	must(os.WriteFile(path, append(whole, `{"state":"comm`...), 0o600))
	records, err := readJournal(path)
	if err != nil || len(records) != 2 {
		t.Fatalf("%+v, %v", records, err)
	}
	must(j.Append(context.Background(), rollout.Record{State: rollout.Start}))
	records, err = readJournal(path)
	if err != nil || len(records) != 3 || records[2].State != rollout.Start {
		t.Fatalf("%+v, %v", records, err)
	}
	must(j.Append(context.Background(), rollout.Record{State: rollout.Begun, Plan: &rollout.Plan{New: "b"}}))
	if records, err = readJournal(path); err != nil || len(records) != 1 {
		t.Fatalf("a new rollout keeps the old journal: %+v, %v", records, err)
	}
}

func FuzzHistory(f *testing.F) {
	dir := f.TempDir()
	r := &run{Step: Step{Dir: dir, Clock: tick{}}}
	for _, release := range []string{"a", "b"} {
		if err := r.record(Record{Action: ActionDeploy, Outcome: rollout.Promoted, Release: release}); err != nil {
			f.Fatal(err)
		}
	}
	b, err := os.ReadFile(r.historyFile())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decodeHistory("history.jsonl", b)
		if err != nil {
			return
		}
		for i, rec := range records {
			if sum, err := rec.sum(); err != nil || sum != rec.Sum || rec.Seq != i+1 {
				t.Errorf("record %d of %s was accepted", i, b)
			}
		}
		if _, err := json.Marshal(good(records)); err != nil || bytes.Count(b, []byte("\n")) < len(records)-1 {
			t.Errorf("%d records in %s", len(records), b)
		}
	})
}
