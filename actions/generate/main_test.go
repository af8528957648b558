package main

import (
	"testing"

	"github.com/ultrafast-ci/ultrafast/actions/generate/door"
	"github.com/ultrafast-ci/ultrafast/internal/app"
	"github.com/ultrafast-ci/ultrafast/internal/app/apptest"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/embedded"
	"github.com/ultrafast-ci/ultrafast/internal/sandbox/hook"
)

func TestMain(m *testing.M) {
	apptest.Main(m, func() bool { return embedded.Reexec() || hook.Reexec() }, map[string]func() app.Door{"ultrafast-generate": door.New})
}

func TestScripts(t *testing.T) { apptest.Run(t, "testdata", nil) }
