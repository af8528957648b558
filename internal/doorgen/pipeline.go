package doorgen

import (
	"fmt"
	"path"
	"slices"
)

// Pipeline joins doors: a job for each, in order.
type Pipeline struct {
	// Joined is the door that runs all phases in one process. Its inputs are those of
	// the pipeline, as far as a phase has them.
	Joined Door
	// Except are inputs of Joined that make no sense for jobs of their own.
	Except []string
	// Only names the one phase that is given an input which others have too, in
	// another meaning.
	Only   map[string]string
	Phases []Door
}

// Files returns the generated files of the pipeline by their paths from the root of
// the repository: the whole in one job for GitHub, a job per phase for GitLab and
// Tekton.
func (p Pipeline) Files() (map[string][]byte, error) {
	all, err := p.Joined.inputs()
	if err != nil {
		return nil, err
	}
	inputs := without(all, append([]string{"state", "state-out"}, p.Except...)...)
	of := map[string][]Input{}
	for _, d := range p.Phases {
		if of[d.Name], err = d.inputs(); err != nil {
			return nil, err
		}
	}
	for _, in := range inputs {
		if !slices.ContainsFunc(p.Phases, func(d Door) bool { _, ok := find(of[d.Name], in.Name); return ok }) {
			return nil, fmt.Errorf("pipeline: no phase has the input %s", in.Name)
		}
	}
	root, err := RootAction(p.Joined)
	if err != nil {
		return nil, err
	}
	dir := path.Join("actions", p.Joined.Name)
	return map[string][]byte{
		"action.yml":                  root,
		path.Join(dir, "gitlab.yml"):  p.gitlab(inputs, of),
		path.Join(dir, "tekton.yaml"): p.tekton(inputs, of),
	}, nil
}

// common returns those of inputs that the phase called name is given, of being its own.
func (p Pipeline) common(inputs, of []Input, name string) []Input {
	return slices.DeleteFunc(slices.Clone(inputs), func(in Input) bool {
		_, has := find(of, in.Name)
		only := p.Only[in.Name]
		return !has || only != "" && only != name
	})
}

// gitlab returns a component with a job per phase. Each needs the one before and so
// inherits its variable STATE and its store.
func (p Pipeline) gitlab(inputs []Input, of map[string][]Input) []byte {
	declared := mapping{{"stage", gitlabInput(Text, "Stage of all jobs; their order comes from what they need.", "test", nil)}}
	for _, d := range p.Phases {
		declared = append(declared, pair{d.Name + "-image", gitlabInput(Text, "Image of the job "+d.Name+".", d.image(d.gitlabFlavour()), nil)})
	}
	inputs = without(inputs, fixed...)
	for _, in := range inputs {
		in.Required = false // by the jobs on protected refs alone
		declared = append(declared, pair{in.Name, in.gitlab()})
	}
	jobs := mapping{}
	needs := []string{}
	for _, d := range p.Phases {
		jobs = append(jobs, pair{d.Name, d.gitlabJob(p.common(inputs, of[d.Name], d.Name), "$[[ inputs.stage ]]", "$[[ inputs."+d.Name+"-image ]]", needs)})
		needs = []string{d.Name}
	}
	return []byte(p.notice() + emit(mapping{{"spec", mapping{{"inputs", declared}}}}) + "---\n" + emit(jobs))
}

func (p Pipeline) notice() string {
	return fmt.Sprintf("# Written by `make doors` from the command lines of %s %s and the phases. Change it there.\n", p.Joined.Binary, p.Joined.Verb)
}

// tekton returns a Pipeline whose tasks are those of the phases.
func (p Pipeline) tekton(inputs []Input, of map[string][]Input) []byte {
	var tasks, spaces sequence
	needed := []Workspace{sourceWorkspace}
	defaults := map[string]string{"project": "."}
	before := ""
	for _, d := range p.Phases {
		tasks = append(tasks, d.pipelineTask(p.common(inputs, of[d.Name], d.Name), before))
		before = d.Name
		for name, value := range d.taskDefaults(of[d.Name]) {
			defaults[name] = value
		}
		for _, w := range d.Workspaces {
			needed = merge(needed, w)
		}
	}
	for _, w := range needed {
		spaces = append(spaces, mapping{{"name", w.Name}, {"description", w.Description}})
	}
	return []byte(p.notice() + emit(mapping{
		{"apiVersion", "tekton.dev/v1"},
		{"kind", "Pipeline"},
		{"metadata", mapping{{"name", "ultrafast"}, {"labels", mapping{{"app.kubernetes.io/part-of", "ultrafast"}}}}},
		{"spec", mapping{
			{"description", p.Joined.Description},
			{"params", tektonParams(storeRequired(inputs), defaults)},
			{"workspaces", spaces},
			{"tasks", tasks},
			{"results", tektonResults("$(tasks." + before + ".results.state)")},
		}},
	}))
}

// storeRequired returns inputs with a store that must be named: no registry is that of
// everyone, and a directory in a workspace can be changed by every task.
func storeRequired(inputs []Input) []Input {
	inputs = slices.Clone(inputs)
	for i := range inputs {
		if inputs[i].Name == "store" {
			inputs[i].Required = true
			inputs[i].Help = "State store that all tasks share, oci://host/repository."
		}
	}
	return inputs
}

// merge adds a workspace once.
func merge(all []Workspace, w Workspace) []Workspace {
	if slices.ContainsFunc(all, func(have Workspace) bool { return have.Name == w.Name }) {
		return all
	}
	return append(all, w)
}

// pipelineTask returns the task of a pipeline that follows the task before.
func (d Door) pipelineTask(inputs []Input, before string) mapping {
	var params, spaces sequence
	for _, in := range inputs {
		params = append(params, mapping{{"name", in.Name}, {"value", "$(params." + in.Name + ")"}})
	}
	if before != "" {
		params = append(params, mapping{{"name", "state"}, {"value", "$(tasks." + before + ".results.state)"}})
	}
	for _, w := range d.workspaces() {
		spaces = append(spaces, mapping{{"name", w.Name}, {"workspace", w.Name}})
	}
	return mapping{
		{"name", d.Name},
		{"taskRef", mapping{{"name", d.objectName()}}},
		{"params", params},
		{"workspaces", spaces},
	}
}
