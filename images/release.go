package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
)

// registry is where the files of a work tree look for images, under the tag main.
const registry = "ghcr.io/ultrafast-ci"

var (
	// version is the form of a tag that is the version of the programs too.
	version = regexp.MustCompile(`^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?$`)
	// fromSource is what a container action of a work tree is made of.
	fromSource = regexp.MustCompile(`(?m)^(  image: )\S*Dockerfile$`)
	entrypoint = regexp.MustCompile(`(?m)^  entrypoint: /([a-z-]+)$`)
	// floating is a reference of a work tree.
	floating = regexp.MustCompile(regexp.QuoteMeta(registry) + `/([a-z-]+):main(-[a-z]+)?\b`)
	// pinned is a reference of a release.
	pinned = regexp.MustCompile(`([a-z0-9.:-]+(?:/[a-z0-9._-]+)*)/([a-z-]+):([A-Za-z0-9._-]+)@(sha256:[0-9a-f]{64})`)
	// ourActions are the actions that the reusable workflow names in full.
	ourActions = regexp.MustCompile(`(ultrafast-ci/ultrafast/actions/[a-z-]+)@main\b`)
)

// release is a tree whose files name images by the digests that a build has given,
// which can be known before anything is published: the files are in no image.
type release struct {
	dir, registry, tag string
	images             []built
	// partial is set where only some images were asked for: the others stay as they are.
	partial bool
}

// files returns those that name images.
func (r release) files() ([]string, error) {
	var files []string
	for _, name := range []string{"action.yml", "gitlab.yml", "tekton.yaml"} {
		found, err := filepath.Glob(filepath.Join(r.dir, "actions", "*", name))
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, fault.New(fault.Usage, "name the root of a copy of the repository", "%s has no actions", r.dir)
	}
	return files, nil
}

// digest returns the digest of the image name in the flavour with a suffix.
func (r release) digest(name, suffix string) (string, bool) {
	i := slices.IndexFunc(r.images, func(b built) bool { return b.Name == name && b.suffix == suffix })
	if i < 0 {
		return "", false
	}
	return r.images[i].Digest, true
}

func (r release) reference(name, suffix, digest string) string {
	return fmt.Sprintf("%s/%s:%s%s@%s", r.registry, name, r.tag, suffix, digest)
}

// write names the images in the files of the tree, and the release in its workflow.
func (r release) write() error {
	files, err := r.files()
	if err != nil {
		return err
	}
	var missing []error
	for _, name := range files {
		err := rewrite(name, func(text string) string {
			text, errs := r.pin(text)
			for _, err := range errs {
				missing = append(missing, fmt.Errorf("%s: %w", name, err))
			}
			return text
		})
		if err != nil {
			return err
		}
	}
	if len(missing) > 0 && !r.partial {
		return fault.Wrap(errors.Join(missing...), fault.Unavailable, "build every flavour: images/busybox.sh brings what they need", "write the release")
	}
	workflow := filepath.Join(r.dir, ".github", "workflows", "pipeline.yml")
	return rewrite(workflow, func(text string) string { return ourActions.ReplaceAllString(text, "${1}@"+r.tag) })
}

// pin returns the text of a file with references by digest, and an error for every
// image that was not built.
func (r release) pin(text string) (string, []error) {
	var missing []error
	if program := entrypoint.FindStringSubmatch(text); program != nil && fromSource.MatchString(text) {
		name := "ultrafast-" + program[1]
		if digest, ok := r.digest(name, ""); ok {
			text = fromSource.ReplaceAllString(text, "${1}docker://"+r.reference(name, "", digest))
		} else {
			missing = append(missing, fmt.Errorf("image %s was not built", name))
		}
	}
	text = floating.ReplaceAllStringFunc(text, func(ref string) string {
		parts := floating.FindStringSubmatch(ref)
		digest, ok := r.digest(parts[1], parts[2])
		if !ok {
			missing = append(missing, fmt.Errorf("image %s%s was not built", parts[1], parts[2]))
			return ref
		}
		return r.reference(parts[1], parts[2], digest)
	})
	return text, missing
}

// check compares the references in the files of the tree with what this build gives:
// an error of kind fault.Finding names every one that differs, and every image that is
// not named by digest.
func (r release) check() error {
	files, err := r.files()
	if err != nil {
		return err
	}
	var differ []error
	compared := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return fault.Wrap(err, fault.Unavailable, "name a tree that can be read", "check the release")
		}
		if !r.partial && (fromSource.Match(text) || floating.Match(text)) {
			differ = append(differ, fmt.Errorf("%s names an image without a digest", name))
		}
		for _, found := range pinned.FindAllStringSubmatch(string(text), -1) {
			suffix := strings.TrimPrefix(found[3], r.tag)
			want, ok := r.digest(found[2], suffix)
			switch {
			case !ok && r.partial:
			case !ok:
				differ = append(differ, fmt.Errorf("%s names %s, which was not built", name, found[0]))
			case found[0] != r.reference(found[2], suffix, want):
				differ = append(differ, fmt.Errorf("%s names %s; the source gives %s", name, found[0], want))
			default:
				compared++
			}
		}
	}
	if len(differ) == 0 && compared == 0 {
		differ = append(differ, errors.New("no file names an image by digest"))
	}
	return fault.Wrap(errors.Join(differ...), fault.Finding,
		"build from the commit that the release was made of, with the same tag; if that gives this again, do not trust the images", "check the release in "+r.dir)
}

// rewrite replaces the text of a file, if change changes it.
func rewrite(name string, change func(string) string) error {
	old, err := os.ReadFile(name)
	if err == nil {
		if fresh := change(string(old)); fresh != string(old) {
			err = os.WriteFile(name, []byte(fresh), 0o644)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(err, fault.Usage, "name the root of a copy of the repository", "write the release")
	}
	return fault.Wrap(err, fault.Unavailable, "name a tree that can be written", "write the release")
}
