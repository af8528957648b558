package apptest

import (
	"os"
	"testing"

	"github.com/ultrafast-ci/ultrafast/steps/market"
)

// TestTinySum keeps the digest in the registry of the scripts right.
func TestTinySum(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := writeTiny(dir); err != nil {
		t.Fatal(err)
	}
	sum, err := market.Sum(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	if sum.Hex() != tinySum {
		t.Errorf("tinySum is %s, want %s", tinySum, sum.Hex())
	}
}
