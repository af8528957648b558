// Package doorgen writes what CI systems read to call a phase: action.yml,
// gitlab.yml, tekton.yaml and the tables of the README, all from the struct that is
// the command line of the phase.
//
// The struct's tags are enough: the package does not know the library that parses
// command lines, nor any phase. It reads no file and writes none; the bytes that it
// returns depend on the structs and the [Door] alone, so that a comparison with the
// committed files shows every drift.
//
//	files, err := doorgen.Files(doorgen.Door{Name: "market", Command: "market", Verb: "add", CLI: door.New().CLI, …})
package doorgen

import (
	"fmt"
	"path"
	"slices"
)

// Door describes one door: which verb of which command line it calls, and how.
type Door struct {
	// Name is the folder below actions/, the name of the job and, after "ultrafast-",
	// of the Tekton objects.
	Name string
	// Description is one sentence for people who choose an action.
	Description string
	// Command is the file name of the binary in the images; Binary its name where
	// it is installed.
	Command, Binary string
	// Verb is the verb of the binary that is the phase's step.
	Verb string
	// CLI is a pointer to the struct with the flags of the binary and, as fields
	// tagged cmd, its verbs.
	CLI any
	// Globals are the flags of the binary itself that are inputs.
	Globals []string
	// Composite makes the action run on the runner itself and not in a container,
	// where no namespaces can be made.
	Composite bool
	// Sandbox says that the phase starts processes of others: its Tekton step runs
	// without the container runtime's seccomp filter, which refuses namespaces.
	Sandbox bool
	// Toolchain chooses the image flavour with a Go toolchain.
	Toolchain bool
	// JUnit says that the phase leaves a test report, CodeQuality that it leaves
	// findings.
	JUnit, CodeQuality bool
	// Workspaces are the directories that a Tekton task needs besides the project,
	// by name, with what they hold.
	Workspaces []Workspace
	// Protected keeps the job of a GitLab pipeline off unprotected refs.
	Protected bool
}

// Workspace is a directory that a Tekton task is given at /workspace/<Name>.
type Workspace struct {
	Name, Description string
	Optional          bool
}

// Where generated files point to. A release replaces the tags with digests.
const (
	// Images is where every image is published, under the name of its binary.
	Images = "ghcr.io/ultrafast-ci/"
	// Tag is the tag of images of the main branch.
	Tag = "main"
)

// image returns the reference of a door's image; flavour is "", "shell" or "go".
func (d Door) image(flavour string) string {
	ref := Images + d.Binary + ":" + Tag
	if flavour != "" {
		ref += "-" + flavour
	}
	return ref
}

// flavours of images: the empty base, one with a shell for GitLab, and one with a Go
// toolchain (and a shell) for the clean room.
const (
	shellFlavour     = "shell"
	toolchainFlavour = "go"
)

// objectName returns the name of the door's Tekton objects.
func (d Door) objectName() string { return "ultrafast-" + d.Name }

// entrypoint returns the path of the binary in the images.
func (d Door) entrypoint() string { return "/" + d.Command }

// notice is the first line of every generated file.
func (d Door) notice() string {
	return fmt.Sprintf("# Written by `make doors` from the command line of %s %s. Change it there.\n", d.Binary, d.Verb)
}

// Files returns the generated files of d by their paths from the root of the
// repository. The README is not among them: see [README].
func Files(d Door) (map[string][]byte, error) {
	inputs, err := d.inputs()
	if err != nil {
		return nil, err
	}
	dir := path.Join("actions", d.Name)
	return map[string][]byte{
		path.Join(dir, "action.yml"):  d.action(inputs, path.Join("..", "..")),
		path.Join(dir, "gitlab.yml"):  d.gitlab(inputs),
		path.Join(dir, "tekton.yaml"): d.tekton(inputs),
	}, nil
}

// inputs returns the inputs of the door and refuses names that the generated files
// use for themselves.
func (d Door) inputs() ([]Input, error) {
	inputs, err := Inputs(d.CLI, d.Verb, d.Globals)
	if err != nil {
		return nil, fmt.Errorf("door %s: %w", d.Name, err)
	}
	for _, in := range inputs {
		if slices.Contains(ownNames, in.Name) {
			return nil, fmt.Errorf("door %s: the flag --%s has the name of an input that every GitLab job has", d.Name, in.Name)
		}
	}
	return inputs, nil
}

// Output describes what a door hands on.
type Output struct{ Name, Help string }

// outputs are those of every door.
var outputs = []Output{{"state", "What the next phase is given: <store>@sha256:<digest>, at most 4096 bytes."}}

// without returns inputs but those called by one of names.
func without(inputs []Input, names ...string) []Input {
	return slices.DeleteFunc(slices.Clone(inputs), func(in Input) bool { return slices.Contains(names, in.Name) })
}

// find returns the input called name.
func find(inputs []Input, name string) (Input, bool) {
	i := slices.IndexFunc(inputs, func(in Input) bool { return in.Name == name })
	if i < 0 {
		return Input{}, false
	}
	return inputs[i], true
}
