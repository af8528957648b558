package app

import "strings"

// registryCredentials returns the credentials that a CI job has for registries:
// GitLab's job token for its own registry, GitHub's token, where the job was given
// it, for ghcr.io. A token is offered to no other host; for everything else Docker's
// configuration file counts.
func registryCredentials(lookup func(string) (string, bool)) func(string) (user, password string, ok bool) {
	env := func(name string) string { v, _ := lookup(name); return v }
	return func(registry string) (user, password string, ok bool) {
		switch {
		case registry == "":
			return "", "", false
		case strings.EqualFold(registry, env("CI_REGISTRY")):
			// https://docs.gitlab.com/ci/jobs/ci_job_token/
			user, password = "gitlab-ci-token", env("CI_JOB_TOKEN")
		case registry == "ghcr.io":
			user, password = env("GITHUB_ACTOR"), env("GITHUB_TOKEN")
		}
		return user, password, user != "" && password != ""
	}
}
