package generate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/state"
)

// Where a write keeps its papers, below the output directory: on the same file
// system as the targets, so that a rename is all it takes to put a file in place.
const (
	workDir      = ".ggen/generate"
	stageDir     = workDir + "/stage"
	backupDir    = workDir + "/backup"
	journalFile  = workDir + "/journal.json"
	manifestFile = workDir + "/manifest.json"
	lockFile     = workDir + "/lock"
	baseFile     = workDir + "/base.tar" // what was generated last
	baseStage    = baseFile + paperStage

	paperStage = ".new" // the end of the name under which a paper is staged
)

const (
	paperSchema  = 1
	maxPaperSize = 64 << 20 // bytes of a journal or manifest
)

// direction is where an interrupted journal leads: forward to the new tree, or
// back to the old one after a step forward failed.
type direction string

const (
	forward direction = "forward"
	back    direction = "back"
)

// journal says what a write is about to do. It is written and synced after every
// new content is staged and every old one is backed up, and before the first
// target is touched; whoever finds it later has all that is needed to finish.
type journal struct {
	Schema    int       `json:"schema"`
	Direction direction `json:"direction"`
	// Changes are carried out in order, removals first.
	Changes []change `json:"changes"`
	// Manifest is what the manifest says afterwards.
	Manifest manifest `json:"manifest"`
}

// change replaces, creates or removes one file. Its number, the index in the
// journal, names its staged and backed-up content.
type change struct {
	Path string `json:"path"`
	// Folder is the topmost folder above the file that is not there before the write.
	// It is staged whole, to be put in place by one rename.
	Folder string `json:"folder,omitempty"`
	// Before is the digest of the file that is there, empty if there is none;
	// After of the new one, empty for a removal.
	Before state.Digest `json:"before,omitempty"`
	After  state.Digest `json:"after,omitempty"`
}

// manifest tells what the last write left, so that a regenerated file is told
// from one that a person changed.
type manifest struct {
	Schema int                     `json:"schema"`
	Files  map[string]state.Digest `json:"files"`
	// Edits are the edits of files that were not generated, by path.
	Edits map[string][]state.Digest `json:"edits,omitempty"`
	// Base is the digest of the archive of what was generated, before any merge.
	Base state.Digest `json:"base,omitempty"`
}

func stageName(number int) string { return fmt.Sprintf("%s/%06d", stageDir, number) }

// staged returns where the new content of each change is staged. That of a file in a
// new folder lies in a folder with the number of the first change that has it.
func staged(changes []change) []string {
	names := make([]string, len(changes))
	first := map[string]string{}
	for i := range changes {
		folder, name := changes[i].Folder, stageName(i)
		if folder != "" {
			if first[folder] == "" {
				first[folder] = name
			}
			name = first[folder] + changes[i].Path[len(folder):]
		}
		names[i] = name
	}
	return names
}

func backupName(number int) string { return fmt.Sprintf("%s/%06d", backupDir, number) }

// readManifest returns the manifest of the last write; none is an empty one.
func readManifest(root *os.Root) (manifest, error) {
	m := manifest{Schema: paperSchema, Files: map[string]state.Digest{}}
	found, err := readPaper(root, manifestFile, &m)
	if err == nil && found {
		err = m.check()
	}
	if err != nil {
		return manifest{}, fault.New(fault.Finding, "remove the file; existing files then need --force", "read %s: %w", manifestFile, err)
	}
	return m, nil
}

// readJournal returns the journal of an interrupted write, if there is one.
func readJournal(root *os.Root) (journal, bool, error) {
	var j journal
	found, err := readPaper(root, journalFile, &j)
	if err == nil && found {
		err = j.check()
	}
	if err != nil {
		return journal{}, false, fault.New(fault.Finding, "remove the file after looking at the output directory, then generate again", "read %s: %w", journalFile, err)
	}
	return j, found, nil
}

// check treats the manifest as hostile: it may have come with a cloned repository.
func (m manifest) check() error {
	if m.Schema != paperSchema {
		return fmt.Errorf("schema %d is not known; this program reads %d", m.Schema, paperSchema)
	}
	for name, digest := range m.Files {
		if err := checkPaperEntry(name, digest); err != nil {
			return err
		}
	}
	if m.Base != "" {
		if _, err := state.ParseDigest(string(m.Base)); err != nil {
			return fmt.Errorf("base: %w", err)
		}
	}
	for name, digests := range m.Edits {
		for _, digest := range digests {
			if err := checkPaperEntry(name, digest); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j journal) check() error {
	if j.Schema != paperSchema {
		return fmt.Errorf("schema %d is not known; this program reads %d", j.Schema, paperSchema)
	}
	if j.Direction != forward && j.Direction != back {
		return fmt.Errorf("direction %q is not known", j.Direction)
	}
	for _, c := range j.Changes {
		if c.Folder != "" && !strings.HasPrefix(c.Path, c.Folder+"/") {
			return fmt.Errorf("entry %.200q is not in the folder %.200q", c.Path, c.Folder)
		}
		for _, digest := range []state.Digest{c.Before, c.After} {
			if err := checkPaperEntry(c.Path, digest); err != nil {
				return err
			}
		}
	}
	return j.Manifest.check()
}

func checkPaperEntry(name string, digest state.Digest) error {
	if clean, err := cleanPath(name, true); err != nil {
		return fmt.Errorf("entry %.200q: %w", name, err)
	} else if clean != name {
		return fmt.Errorf("entry %.200q is not a clean path", name)
	}
	if digest == "" {
		return nil
	}
	if _, err := state.ParseDigest(string(digest)); err != nil {
		return fmt.Errorf("entry %.200q: %w", name, err)
	}
	return nil
}

func readPaper(root *os.Root, name string, v any) (found bool, err error) {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s is not a regular file", info.Mode().Type())
	}
	f, err := root.Open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPaperSize+1))
	if err != nil {
		return false, err
	}
	if len(b) > maxPaperSize {
		return false, fmt.Errorf("more than %d bytes", maxPaperSize)
	}
	decoder := json.NewDecoder(bytes.NewReader(b))
	decoder.DisallowUnknownFields()
	return true, decoder.Decode(v)
}

// writePaper replaces the file whole: a reader sees the old one or the new one.
func writePaper(root *os.Root, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := writeSynced(root, name+paperStage, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return placePaper(root, name)
}

// stagePaper writes what [placePaper] puts in place, and leaves it to the caller to make
// it last before that.
func stagePaper(root *os.Root, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := writeWhole(root, name+paperStage, append(b, '\n'), 0o644, false); err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	return nil
}

// placePaper replaces the file by the one that is staged and lasting.
func placePaper(root *os.Root, name string) error {
	if err := root.Rename(name+paperStage, name); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(root, workDir)
}

func writeSynced(root *os.Root, name string, content []byte, mode fs.FileMode) error {
	return writeWhole(root, name, content, mode, true)
}

func writeWhole(root *os.Root, name string, content []byte, mode fs.FileMode, synced bool) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && synced {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes renames in a directory last through a power cut. Windows has no
// such call; its renames are journalled by NTFS.
func syncDir(root *os.Root, name string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
