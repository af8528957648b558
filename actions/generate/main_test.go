package main

import (
	"testing"

	"github.com/ultrafast-ci/ultrafast/actions/generate/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/app/apptest"
)

func TestMain(m *testing.M) {
	apptest.Main(m, nil, map[string]func() app.Door{"ultrafast-generate": door.New})
}

func TestScripts(t *testing.T) { apptest.Run(t, "testdata", nil) }
