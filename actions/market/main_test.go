package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ultrafast-ci/ultrafast/actions/market/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/app/apptest"
	"github.com/ultrafast-ci/ultrafast/internal/registry"
	"github.com/ultrafast-ci/ultrafast/steps/market"
)

func TestMain(m *testing.M) {
	apptest.Main(m, nil, map[string]func() app.Door{"ultrafast-market": door.New})
}

func TestScripts(t *testing.T) {
	apptest.Run(t, "testdata", map[string]apptest.Command{"sums": sums})
}

// sums writes the digests of the packages of a registry into its index.
func sums(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: sums DIR")
	}
	if _, err := registry.WriteSums(ts.MkAbs(args[0]), market.Sum); err != nil {
		ts.Fatalf("%v", err)
	}
}
