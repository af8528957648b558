package door

import (
	"cmp"

	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
)

// imageOf says how the project wants its image.
func imageOf(project *config.Project) cleanroom.Package {
	p := project.Cleanroom.Package
	return cleanroom.Package{
		Name: project.Name, Port: cmp.Or(p.Port, project.Service.Port), User: p.User, Labels: p.Labels,
		Base: p.Base, Files: p.Files, Entrypoint: p.Entrypoint, Args: p.Args, Env: p.Env,
	}
}
