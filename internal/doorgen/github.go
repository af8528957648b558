package doorgen

import "path"

// action returns action.yml. root is the way from its folder to the repository's
// root.
//
// Inputs have no defaults: the runner sets a variable for each input that has one,
// which would hide the environment and the project file.
func (d Door) action(inputs []Input, root string) []byte {
	declared, handed := mapping{}, mapping{}
	for _, in := range inputs {
		p := mapping{{"description", in.describe()}}
		if in.Required {
			p = append(p, pair{"required", true})
		}
		declared = append(declared, pair{in.Name, p})
		handed = append(handed, pair{in.variable(), "${{ inputs." + in.Name + " }}"})
	}
	var outs mapping
	for _, o := range outputs {
		p := mapping{{"description", o.Help}}
		if d.Composite {
			p = append(p, pair{"value", "${{ steps.run.outputs." + o.Name + " }}"})
		}
		outs = append(outs, pair{o.Name, p})
	}
	runs := mapping{
		{"using", "docker"},
		{"image", path.Join(root, "Dockerfile")},
		{"entrypoint", d.entrypoint()},
		{"args", sequence{d.Verb}},
	}
	if d.Composite {
		runs = d.composite(path.Join(root, "actions", "setup", "install.sh"), handed)
	}
	return []byte(d.notice() + emit(mapping{
		{"name", d.title()},
		{"description", d.Description},
		{"author", "The Ultrafast authors"},
		{"branding", mapping{{"icon", "fast-forward"}, {"color", "green"}}},
		{"inputs", declared},
		{"outputs", outs},
		{"runs", runs},
	}))
}

// title returns the name that the marketplace shows.
func (d Door) title() string {
	if d.Name == "ultrafast" {
		return "Ultrafast"
	}
	return "Ultrafast " + d.Name
}

// composite returns the steps that install the binary and run it on the runner.
// Inputs reach it through the environment and never through a shell's text.
func (d Door) composite(installer string, handed mapping) mapping {
	return mapping{
		{"using", "composite"},
		{"steps", sequence{
			mapping{
				{"name", "Install " + d.Binary},
				{"shell", "bash"},
				{"run", `"$GITHUB_ACTION_PATH/` + installer + `" ` + d.Binary},
			},
			mapping{
				{"name", "Run " + d.Binary},
				{"id", "run"},
				{"shell", "bash"},
				{"run", d.Binary + " " + d.Verb},
				{"env", handed},
			},
		}},
	}
}

// RootAction returns the action.yml of the repository's root for d, which must be
// composite.
func RootAction(d Door) ([]byte, error) {
	inputs, err := d.inputs()
	if err != nil {
		return nil, err
	}
	return d.action(inputs, "."), nil
}
