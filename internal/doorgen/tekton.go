package doorgen

import "slices"

// tekton returns a StepAction, which is the phase, and a Task with it as the only
// step.
func (d Door) tekton(inputs []Input) []byte {
	inputs = without(inputs, "state-out") // the step's result
	return []byte(d.notice() + emit(d.stepAction(inputs)) + "---\n" + emit(d.task(inputs)))
}

func (d Door) metadata() mapping {
	return mapping{
		{"name", d.objectName()},
		{"labels", mapping{{"app.kubernetes.io/part-of", "ultrafast"}}},
	}
}

// tektonHome is a directory that Tekton mounts into every step, writable by all.
const tektonHome = "/tekton/home"

// stepAction returns the step: inputs reach the binary as variables.
func (d Door) stepAction(inputs []Input) mapping {
	env := sequence{
		mapping{{"name", "HOME"}, {"value", tektonHome}},
		mapping{{"name", "XDG_CACHE_HOME"}, {"value", tektonHome + "/.cache"}},
		// The binary joins the directory and the name of the result; there is no
		// variable with the directory alone.
		mapping{{"name", "ULTRAFAST_RESULTS_DIR"}, {"value", "$(step.results.state.path)/.."}},
	}
	for _, in := range inputs {
		env = append(env, mapping{{"name", in.variable()}, {"value", "$(params." + in.Name + ")"}})
	}
	flavour := ""
	if d.Toolchain {
		flavour = toolchainFlavour
	}
	return mapping{
		{"apiVersion", "tekton.dev/v1beta1"},
		{"kind", "StepAction"},
		{"metadata", d.metadata()},
		{"spec", mapping{
			{"description", d.tektonDescription()},
			{"params", tektonParams(inputs, nil)},
			{"results", tektonResults("")},
			{"image", d.image(flavour)},
			{"command", inline{d.entrypoint()}},
			{"args", inline{d.Verb}},
			{"env", env},
			{"securityContext", d.securityContext()},
		}},
	}
}

func (d Door) tektonDescription() string {
	if !d.Sandbox {
		return d.Description
	}
	return d.Description + " The step makes namespaces of its own, which the seccomp filter of container runtimes refuses: it runs with" +
		" seccomp unconfined, as an unprivileged user without capabilities. Where the cluster does not allow that, set min-isolation to reduced, or use another platform: the step ends with exit code 3 and says so."
}

// securityContext is the restricted profile of the Pod Security Standards, the
// seccomp filter of phases with a sandbox apart.
func (d Door) securityContext() mapping {
	seccomp := "RuntimeDefault"
	if d.Sandbox {
		seccomp = "Unconfined"
	}
	return mapping{
		{"runAsNonRoot", true},
		{"runAsUser", 65532},
		{"allowPrivilegeEscalation", false},
		{"capabilities", mapping{{"drop", inline{"ALL"}}}},
		{"seccompProfile", mapping{{"type", seccomp}}},
	}
}

// tektonParams declares inputs. An empty parameter counts as not given; defaults
// replace that for single ones.
func tektonParams(inputs []Input, defaults map[string]string) sequence {
	var params sequence
	for _, in := range inputs {
		p := mapping{{"name", in.Name}, {"type", "string"}, {"description", in.describe()}}
		value, given := defaults[in.Name]
		if given || !in.Required {
			p = append(p, pair{"default", value})
		}
		params = append(params, p)
	}
	return params
}

func tektonResults(value string) sequence {
	var results sequence
	for _, o := range outputs {
		r := mapping{{"name", o.Name}, {"description", o.Help}}
		if value != "" {
			r = append(r, pair{"value", value})
		}
		results = append(results, r)
	}
	return results
}

// sourceWorkspace holds the project in every task.
var sourceWorkspace = Workspace{Name: "source", Description: "The project: the directory of ggen.toml, or one above it."}

func (d Door) workspaces() []Workspace {
	return append([]Workspace{sourceWorkspace}, d.Workspaces...)
}

func (d Door) task(inputs []Input) mapping {
	var handed, spaces sequence
	for _, in := range inputs {
		value := "$(params." + in.Name + ")"
		if in.Name == "project" {
			value = "$(workspaces." + sourceWorkspace.Name + ".path)/" + value
		}
		handed = append(handed, mapping{{"name", in.Name}, {"value", value}})
	}
	for _, w := range d.workspaces() {
		m := mapping{{"name", w.Name}, {"description", w.Description}}
		if w.Optional {
			m = append(m, pair{"optional", true})
		}
		spaces = append(spaces, m)
	}
	return mapping{
		{"apiVersion", "tekton.dev/v1"},
		{"kind", "Task"},
		{"metadata", d.metadata()},
		{"spec", mapping{
			{"description", d.tektonDescription()},
			{"params", tektonParams(inputs, d.taskDefaults(inputs))},
			{"workspaces", spaces},
			{"results", tektonResults("$(steps.run.results.state)")},
			{"steps", sequence{mapping{
				{"name", "run"},
				{"ref", mapping{{"name", d.objectName()}}},
				{"params", handed},
			}}},
		}},
	}
}

// taskDefaults are where files lie that come in a workspace which must be given.
func (d Door) taskDefaults(inputs []Input) map[string]string {
	defaults := map[string]string{"project": "."}
	for _, in := range inputs {
		if file, ok := workspaceFiles[in.Name]; ok && d.needs(file.workspace) {
			defaults[in.Name] = "/workspace/" + file.workspace + "/" + file.name
		}
	}
	return defaults
}

func (d Door) needs(workspace string) bool {
	return slices.ContainsFunc(d.Workspaces, func(w Workspace) bool { return w.Name == workspace && !w.Optional })
}

// workspaceFiles are inputs that name a file of a workspace, called as keygen
// writes it.
var workspaceFiles = map[string]struct{ workspace, name string }{
	"key":        {"keys", "signing.pem"},
	"trust-root": {"trust", "trust.toml"},
}
