package generate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// applier carries out a journal. It may be killed after any call: every change is
// recognised as done or not done by what is on disk.
type applier struct {
	root *os.Root
	// recovering tells a journal found on disk from one just written: a file that
	// changed since then belongs to a person, and is kept.
	recovering bool
	papers     bool            // the new manifest is staged, and lasting
	staged     []string        // of the changes of the journal
	whole      map[string]bool // new folders that were tried to put in place whole, and whether that worked
	kept       []string
	touched    map[string]bool // folders to sync
	folders    map[string]bool // known to be real
	made       map[string]bool // folders that were not there
}

func newApplier(root *os.Root, changes []change, recovering bool) *applier {
	return &applier{
		root: root, recovering: recovering, staged: staged(changes),
		whole: map[string]bool{}, touched: map[string]bool{}, folders: map[string]bool{}, made: map[string]bool{},
	}
}

// recoverLocked finishes the journal below root, if there is one, and removes
// what a kill before the journal left.
func recoverLocked(root *os.Root, dir string) ([]string, error) {
	j, found, err := readJournal(root)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fault.Wrap(sweep(root), fault.Unavailable, "", "clean up "+dir)
	}
	a := newApplier(root, j.Changes, true)
	err = a.carryOut(dir, j)
	return a.kept, err
}

// carryOut goes where the journal leads; if going forward fails, it turns back.
func (a *applier) carryOut(dir string, j journal) error {
	if j.Direction == back {
		return fault.Wrap(a.back(j), fault.Unavailable, "make the directory writable and run again", "take back an interrupted write to "+dir)
	}
	err := a.forward(j)
	if err == nil {
		return nil
	}
	err = fault.Wrap(err, fault.Unavailable, "", "write to "+dir)
	j.Direction = back
	if turn := writePaper(a.root, journalFile, j); turn != nil {
		return errors.Join(err, turn)
	}
	if turn := a.back(j); turn != nil {
		return errors.Join(err, fmt.Errorf("take it back: %w", turn))
	}
	return err
}

func (a *applier) placeManifest(m manifest) error {
	if a.papers {
		return placePaper(a.root, manifestFile)
	}
	return writePaper(a.root, manifestFile, m)
}

func (a *applier) forward(j journal) error {
	if err := a.checkStage(j); err != nil {
		return err
	}
	for i, c := range j.Changes {
		if err := a.do(i, c); err != nil {
			return err
		}
	}
	if err := a.sync(); err != nil {
		return err
	}
	if a.exists(baseStage) {
		if err := a.root.Rename(baseStage, baseFile); err != nil {
			return err
		}
	}
	if err := a.placeManifest(j.Manifest); err != nil {
		return err
	}
	return a.close()
}

// checkStage verifies what is about to be put in place: a staged content that is
// not what the journal says must not reach a target.
func (a *applier) checkStage(j journal) error {
	if !a.recovering {
		return nil // just written and synced by this process
	}
	if digest, err := digestAt(a.root, baseStage); err != nil {
		return err
	} else if digest != "" && digest != j.Manifest.Base {
		return fault.New(fault.Finding, "generate again", "staged content of %s is damaged", baseFile)
	}
	for i, c := range j.Changes {
		there, err := a.reachable(a.staged[i])
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		digest, err := digestAt(a.root, a.staged[i])
		if err != nil {
			return err
		}
		if digest != "" && digest != c.After {
			return fault.New(fault.Finding, "generate again", "staged content of %s is damaged", c.Path)
		}
	}
	return nil
}

func (a *applier) do(number int, c change) error {
	if c.After != "" && a.recovering && !a.exists(a.staged[number]) {
		return nil // in place already
	}
	if a.placedWhole(number, c) {
		return nil
	}
	var now state.Digest
	if !a.made[path.Dir(c.Path)] { // else this very run made the folder, and the file is not there
		var err error
		if now, err = a.present(c.Path); err != nil {
			return err
		}
	}
	switch {
	case c.After == "" && now == "":
		return nil // removed already
	case now != c.Before && a.recovering:
		a.kept = append(a.kept, c.Path)
		return nil
	case now != c.Before:
		return fault.New(fault.Finding, "run again", "%s was changed while its new content was written", c.Path)
	case c.After == "":
		return a.remove(c.Path)
	}
	return a.place(a.staged[number], c.Path)
}

// placedWhole puts the new folder of a change in place, with all the files in it, and
// reports whether it did, now or for a change before. It does not where the folder
// came up in the meantime: then its files are placed one by one. Nor in a recovery,
// since nobody looked at what else may be in a folder that lay there.
func (a *applier) placedWhole(number int, c change) bool {
	if c.Folder == "" || a.recovering {
		return false
	}
	done, tried := a.whole[c.Folder]
	if tried {
		return done
	}
	from := strings.TrimSuffix(a.staged[number], c.Path[len(c.Folder):])
	now, err := a.present(c.Folder)
	done = err == nil && now == "" && a.place(from, c.Folder) == nil
	a.whole[c.Folder] = done
	return done
}

// present returns the digest of the file at name, or none if there is no file but
// nothing or a folder: of two changes one may make a folder of what the other
// removes.
func (a *applier) present(name string) (state.Digest, error) {
	if there, err := a.reachable(name); err != nil || !there {
		return "", err
	}
	if info, err := a.root.Lstat(name); isAbsent(err) || err == nil && info.IsDir() {
		return "", nil
	}
	return digestAt(a.root, name)
}

// reachable reports whether the folders above name are there. It makes sure that no
// link leads there, since a journal may have come with a cloned repository.
func (a *applier) reachable(name string) (bool, error) {
	for i, r := range name {
		if r != '/' || a.folders[name[:i]] {
			continue
		}
		info, err := a.root.Lstat(name[:i])
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if info.Mode().IsRegular() {
			return false, nil
		}
		if !info.IsDir() {
			return false, fault.New(fault.Finding, "remove or rename it", "%s is not a folder", name[:i])
		}
		a.know(name[:i])
	}
	return true, nil
}

// place renames from to name and makes the folders that it needs.
func (a *applier) place(from, name string) error {
	folder := path.Dir(name)
	if err := a.makeFolders(folder); err != nil {
		return err
	}
	if err := a.root.Rename(from, name); err != nil {
		return err
	}
	a.touched[folder] = true
	return nil
}

func (a *applier) makeFolders(folder string) error {
	if folder == "." || a.folders[folder] || a.exists(folder) {
		return nil
	}
	parent := path.Dir(folder)
	if err := a.makeFolders(parent); err != nil {
		return err
	}
	err := a.root.Mkdir(folder, 0o755)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	a.touched[parent] = true
	a.know(folder)
	if err == nil && !a.recovering {
		a.made[folder] = true
	}
	return nil
}

// know remembers a folder, so that it is not looked at for every file below it.
func (a *applier) know(folder string) {
	a.folders[folder] = true
}

// remove deletes a file and the folders above it that this leaves empty.
func (a *applier) remove(name string) error {
	if err := a.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	folder := path.Dir(name)
	for folder != "." && a.root.Remove(folder) == nil { // fails on the first that is not empty
		delete(a.touched, folder)
		delete(a.folders, folder)
		delete(a.made, folder)
		folder = path.Dir(folder)
	}
	a.touched[folder] = true
	return nil
}

// back undoes, last change first, what forward did.
func (a *applier) back(j journal) error {
	for i, c := range slices.Backward(j.Changes) {
		if err := a.undo(i, c); err != nil {
			return err
		}
	}
	if err := a.sync(); err != nil {
		return err
	}
	return a.close()
}

func (a *applier) undo(number int, c change) error {
	if c.After != "" && a.exists(a.staged[number]) {
		return nil // was never put in place
	}
	now, err := a.present(c.Path)
	if err != nil {
		return err
	}
	switch {
	case now != c.After:
		return nil // undone already, or changed by hand since
	case c.Before == "":
		return a.remove(c.Path)
	case a.exists(backupName(number)):
		return a.place(backupName(number), c.Path)
	default:
		return nil // restored already: the backup has taken its place again
	}
}

// sync makes the renames last before the journal that describes them goes.
func (a *applier) sync() error {
	for folder := range a.touched {
		if err := syncDir(a.root, folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sync %s: %w", folder, err)
		}
	}
	return nil
}

func (a *applier) close() error {
	if err := a.root.Remove(journalFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := syncDir(a.root, workDir); err != nil {
		return err
	}
	return sweep(a.root)
}

func (a *applier) exists(name string) bool {
	_, err := a.root.Lstat(name)
	return err == nil
}

// sweep removes staged contents and backups that no journal names.
func sweep(root *os.Root) error {
	var errs []error
	for _, name := range []string{stageDir, backupDir} {
		errs = append(errs, root.RemoveAll(name))
	}
	for _, name := range []string{journalFile + paperStage, manifestFile + paperStage, baseStage} {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
