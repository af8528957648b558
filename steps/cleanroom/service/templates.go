package service

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// Templates keeps directories that take long to fill.
type Templates struct {
	// Dir is made, with mode 0700, when the first template is.
	Dir string
}

var templateKey = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`) })

// Get returns the directory of key, which fill has filled, now or in an earlier run.
// This process fills it once, and others may do so at the same time: the first to end
// wins. A fill that fails or is killed leaves nothing that is ever used. What nobody used
// for long goes when another is filled.
func (t Templates) Get(ctx context.Context, key string, fill func(ctx context.Context, dir string) error) (_ string, err error) {
	if !templateKey().MatchString(key) {
		return "", fault.New(fault.Internal, "", "%q is no key of a template", key)
	}
	final, now := filepath.Join(t.Dir, key), time.Now()
	if err := os.Chtimes(final, now, now); err == nil {
		return final, nil
	}
	turn, _ := filling.LoadOrStore(final, make(chan struct{}, 1))
	select {
	case turn.(chan struct{}) <- struct{}{}:
		defer func() { <-turn.(chan struct{}) }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	if err := os.Chtimes(final, now, now); err == nil {
		return final, nil // meanwhile
	}
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "", "make the directory of templates")
	}
	t.sweep(now)
	stage, err := os.MkdirTemp(t.Dir, stagePrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return "", fault.Wrap(err, fault.Unavailable, "", "make a template")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(stage)) }()
	// What fills it may run as another user. Nobody else gets here: Dir is closed.
	if err := os.Chmod(stage, 0o777); err != nil {
		return "", err
	}
	if err := fill(ctx, stage); err != nil {
		return "", err
	}
	if err := os.Chmod(stage, 0o755); err != nil {
		return "", err
	}
	// Fails if somebody was faster: what they made is as good.
	if err := os.Rename(stage, final); err != nil && !errors.Is(err, fs.ErrExist) {
		if _, statErr := os.Stat(final); statErr != nil {
			return "", fault.Wrap(err, fault.Unavailable, "", "keep a template")
		}
	}
	return final, nil
}

// filling has a channel with room for one for each directory that this process fills.
var filling sync.Map

// stagePrefix begins the names of directories that are being filled; the number of the
// process that does it follows.
const stagePrefix = ".new-"

const (
	// keepTime is how long a template is kept that nobody uses.
	keepTime = 30 * 24 * time.Hour
	// keepMany is how many are kept that long: the scripts of a project may change often.
	// The others go after busyTime, in which a run may still use them.
	keepMany = 8
	busyTime = 12 * time.Hour
)

// sweep removes what killed processes were filling, and what was not used for long. A
// number that somebody else has by now keeps a directory for a later sweep.
func (t Templates) sweep(now time.Time) {
	entries, err := os.ReadDir(t.Dir)
	if err != nil {
		return
	}
	var kept []fs.FileInfo
	for _, e := range entries {
		if number, staged := strings.CutPrefix(e.Name(), stagePrefix); staged {
			t.sweepStage(e.Name(), number)
		} else if info, err := e.Info(); err == nil && info.IsDir() {
			kept = append(kept, info)
		}
	}
	slices.SortFunc(kept, func(x, y fs.FileInfo) int { return y.ModTime().Compare(x.ModTime()) })
	for i, info := range kept {
		if age := now.Sub(info.ModTime()); age < busyTime || age < keepTime && i < keepMany {
			continue
		}
		// It goes whole: nobody is to find half of it.
		gone := filepath.Join(t.Dir, stagePrefix+strconv.Itoa(os.Getpid())+"-"+info.Name())
		if os.Rename(filepath.Join(t.Dir, info.Name()), gone) == nil {
			_ = os.RemoveAll(gone)
		}
	}
}

// sweepStage removes the directory called name of a process that is gone.
func (t Templates) sweepStage(name, number string) {
	number, _, _ = strings.Cut(number, "-")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Signal(syscall.Signal(0))
	}
	if errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH) {
		_ = os.RemoveAll(filepath.Join(t.Dir, name))
	}
}
