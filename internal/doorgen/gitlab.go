package doorgen

// ownNames are inputs that every GitLab component has besides the flags.
var ownNames = []string{"job", "stage", "image"}

// fixed are inputs that a GitLab job does not have: the dotenv report hands the state
// on, and reports are where the job's artifacts are.
var fixed = []string{"state-out", "report-dir"}

// gitlabStore is carried by artifacts; see [Door.gitlabArtifacts].
const gitlabStore = "layout:.ggen/state"

// Files that the binary leaves on GitLab for later jobs and for the merge request.
const (
	dotenvFile  = ".ggen/state.env"
	reportDir   = ".ggen/reports/"
	junitFile   = reportDir + "junit.xml"
	qualityFile = reportDir + "gl-code-quality-report.json"
	sastFile    = reportDir + "gl-sast-report.json"
)

// gitlab returns a CI/CD component: its inputs, and the one job that they make.
func (d Door) gitlab(inputs []Input) []byte {
	inputs = without(inputs, fixed...)
	declared := mapping{
		{"job", gitlabInput(Text, "Name of the job.", d.Name, nil)},
		{"stage", gitlabInput(Text, "Stage of the job.", "test", nil)},
		{"image", gitlabInput(Text, "Image with the binary and a shell.", d.image(d.gitlabFlavour()), nil)},
	}
	for _, in := range inputs {
		declared = append(declared, pair{in.Name, in.gitlab()})
	}
	job := d.gitlabJob(inputs, "$[[ inputs.stage ]]", "$[[ inputs.image ]]", nil)
	return []byte(d.notice() +
		emit(mapping{{"spec", mapping{{"inputs", declared}}}}) + "---\n" +
		emit(mapping{{"$[[ inputs.job ]]", job}}))
}

// gitlabFlavour returns the image flavour: GitLab needs a shell in every image.
func (d Door) gitlabFlavour() string {
	if d.Toolchain {
		return toolchainFlavour
	}
	return shellFlavour
}

// gitlab returns the declaration of an input. A number that may be left out is
// declared as text, since GitLab has no empty number.
func (in Input) gitlab() mapping {
	switch {
	case in.Name == "project":
		return gitlabInput(Text, in.describe(), ".", nil) // the artifacts lie below it
	case in.Name == "store":
		// Named, and relative to the project: the state of the job before may name the
		// directory of another runner.
		return gitlabInput(Text, "State store: layout:DIR below the project, which goes from job to job as an artifact, or oci://host/repository.", gitlabStore, nil)
	case in.Required:
		return mapping{{"description", in.describe()}, {"type", "string"}}
	case in.Kind == Number && !in.List:
		return append(gitlabInput(Text, in.describe(), "", nil), pair{"regex", `^([0-9]+(\.[0-9]+)?)?$`})
	case in.Kind == Flag && !in.List:
		return gitlabInput(Flag, in.describe(), "", nil)
	}
	return gitlabInput(Text, in.describe(), "", in.Enum)
}

func gitlabInput(kind Kind, help, value string, enum []string) mapping {
	if kind == Flag {
		return mapping{{"description", help}, {"type", "boolean"}, {"default", false}}
	}
	m := mapping{{"description", help}, {"type", "string"}, {"default", value}}
	if enum == nil {
		return m
	}
	options := inline{""} // left out
	for _, e := range enum {
		if e != "" {
			options = append(options, e)
		}
	}
	return append(m, pair{"options", options})
}

// gitlabJob returns a job. Inputs reach the binary as variables, never as text of
// the script. The state of the job before comes as the dotenv variable STATE, unless
// the input says otherwise; the binary writes the state after it as that.
func (d Door) gitlabJob(inputs []Input, stage, image string, needs []string) mapping {
	variables := mapping{}
	for _, in := range inputs {
		variables = append(variables, pair{in.variable(), "$[[ inputs." + in.Name + " ]]"})
	}
	job := mapping{
		{"stage", stage},
		{"image", mapping{{"name", image}, {"entrypoint", inline{""}}}},
	}
	if needs != nil {
		job = append(job, pair{"needs", inline(needs)})
	}
	if d.Protected {
		job = append(job,
			pair{"rules", sequence{mapping{{"if", `$CI_COMMIT_REF_PROTECTED == "true"`}}}},
			pair{"resource_group", "ultrafast-" + d.Name})
	}
	return append(job,
		pair{"variables", variables},
		pair{"script", sequence{
			`export INPUT_STATE="${INPUT_STATE:-$STATE}"`,
			d.entrypoint() + " " + d.Verb,
		}},
		pair{"artifacts", d.gitlabArtifacts()})
}

func (d Door) gitlabArtifacts() mapping {
	reports := mapping{{"dotenv", dotenvFile}}
	if d.JUnit {
		reports = append(reports, pair{"junit", junitFile})
	}
	if d.CodeQuality {
		reports = append(reports, pair{"codequality", qualityFile}, pair{"sast", sastFile})
	}
	return mapping{
		{"when", "always"},
		{"expire_in", "1 week"},
		{"paths", sequence{"$[[ inputs.project ]]/.ggen/state/", reportDir}},
		{"reports", reports},
	}
}
