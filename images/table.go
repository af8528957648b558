package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ultrafast-ci/ultrafast/steps/fault"
	"github.com/ultrafast-ci/ultrafast/steps/phase"
)

// goVersion is the toolchain that compiles what is published, whatever toolchain
// runs this program. Another one gives other bytes.
const goVersion = "go1.26.8"

// image is one row of what is published.
type image struct {
	// name is the repository below the prefix of --push.
	name string
	// phase is what --phase calls it.
	phase string
	about string
	// programs are directories below actions/. The first is the entrypoint; each
	// lies in the image as "/" and its name.
	programs []string
	flavours []flavour
	// limit is the most compressed bytes that the scratch flavour may have on one
	// platform: what a job waits for.
	limit int64
}

const megabyte = 1_000_000

// table is everything that is published, for every platform in platforms.
var table = []image{
	single(phase.Market, "finds, verifies and installs template packages", 15*megabyte),
	single(phase.Generate, "makes a source tree from graphs and templates", 15*megabyte),
	single(phase.Cleanroom, "builds, tests and packages in a hermetic sandbox", 20*megabyte, goTools),
	single(phase.Validate, "decides production readiness by doing, and signs", 15*megabyte),
	single(phase.Deploy, "switches traffic to a release judged by evidence", 20*megabyte),
	{
		name: "ultrafast", phase: "all", about: "all five phases, joined and one by one",
		programs: append([]string{"ultrafast"}, doors()...), flavours: []flavour{scratch, shell, goTools}, limit: 60 * megabyte,
	},
}

func single(p phase.Name, about string, limit int64, more ...flavour) image {
	return image{
		name: "ultrafast-" + string(p), phase: string(p), about: about, programs: []string{string(p)},
		flavours: append([]flavour{scratch, shell}, more...), limit: limit,
	}
}

func doors() []string {
	var out []string
	for _, p := range phase.All() {
		out = append(out, string(p))
	}
	return out
}

// flavour is what lies below the programs.
type flavour struct {
	// name is what --flavour calls it, suffix what its tag ends with.
	name, suffix string
	// layers are put between the base and the programs.
	layers []string
	path   string
}

const (
	busyboxLayer   = "busybox"
	toolchainLayer = "go"
)

var (
	// scratch holds certificates, /tmp and the programs: for GitHub and Tekton.
	scratch = flavour{name: "scratch"}
	// shell adds the static busybox that GitLab's runner needs to run a script.
	shell = flavour{name: "shell", suffix: "-shell", layers: []string{busyboxLayer}, path: "/bin"}
	// goTools adds a Go toolchain besides, so that the clean room can build Go services
	// where the job's image is the whole machine: in GitLab and Tekton.
	goTools = flavour{
		name: "toolchain", suffix: "-go", layers: []string{busyboxLayer, toolchainLayer},
		path: "/usr/local/go/bin:/bin",
	}
	flavours = []flavour{scratch, shell, goTools}
)

// platforms are what is built unless --platform says less.
var platforms = []string{"linux/amd64", "linux/arm64"}

// selection is a part of the table.
type selection struct {
	images    []image
	flavours  []flavour
	platforms []string
	// systems are those of binaries; none where no binaries are made.
	systems []string
}

// choose returns the part of the table that comma-separated lists name; an empty
// list stands for everything. Platforms that have no images can be named where
// binaries are made.
func choose(phases, flavourNames, platformNames string, binaries bool) (selection, error) {
	var s selection
	var err error
	if s.images, err = pick("phase", phases, table, func(i image) string { return i.phase }); err != nil {
		return s, err
	}
	if s.flavours, err = pick("flavour", flavourNames, flavours, func(f flavour) string { return f.name }); err != nil {
		return s, err
	}
	known := platforms
	if binaries {
		known = systems
	}
	chosen, err := pick("platform", platformNames, known, func(p string) string { return p })
	for _, p := range chosen {
		if slices.Contains(platforms, p) {
			s.platforms = append(s.platforms, p)
		}
	}
	if binaries {
		s.systems = chosen
	}
	return s, err
}

func pick[T any](what, list string, all []T, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	var names []string
	for _, v := range all {
		names = append(names, name(v))
	}
	wanted := strings.Split(list, ",")
	for _, w := range wanted {
		if !slices.Contains(names, w) {
			return nil, fault.New(fault.Usage, fmt.Sprintf("write one of %s", strings.Join(names, ", ")), "unknown %s %q", what, w)
		}
	}
	var out []T
	for _, v := range all {
		if slices.Contains(wanted, name(v)) {
			out = append(out, v)
		}
	}
	return out, nil
}

// has reports whether the image is published in the flavour.
func (i image) has(f flavour) bool {
	return slices.ContainsFunc(i.flavours, func(own flavour) bool { return own.name == f.name })
}
