package door

import (
	"cmp"

	"github.com/ultrafast-ci/ultrafast/internal/config"
	"github.com/ultrafast-ci/ultrafast/internal/oci"
	"github.com/ultrafast-ci/ultrafast/steps/cleanroom"
)

// builderOf returns what builds a Dockerfile, if the project wants that.
func builderOf(project *config.Project) cleanroom.FileBuilder {
	p := project.Cleanroom.Package
	if p.Dockerfile == "" && p.Builder == "" {
		return nil
	}
	return oci.Builder{Name: cmp.Or(p.Builder, "auto")}
}

// imageOf says how the project wants its image.
func imageOf(project *config.Project) cleanroom.Package {
	p := project.Cleanroom.Package
	return cleanroom.Package{
		Name: project.Name, Main: p.Main, Port: cmp.Or(p.Port, project.Service.Port), User: p.User, Labels: p.Labels,
		Base: p.Base, Files: p.Files, Entrypoint: p.Entrypoint, Args: p.Args, Env: p.Env,
		Dockerfile: p.Dockerfile, Builder: p.Builder, BuildNetwork: p.BuildNetwork,
	}
}
