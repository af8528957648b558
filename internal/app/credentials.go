package app

import (
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"strings"
)

// registryCredentials returns the credentials that a CI job has for registries:
// those of DOCKER_AUTH_CONFIG, GitLab's job token for its own registry, GitHub's token,
// where the job was given it, for ghcr.io. Each is offered to no other host; for
// everything else Docker's configuration file counts.
func registryCredentials(lookup func(string) (string, bool), log *slog.Logger) func(string) (user, password string, ok bool) {
	env := func(name string) string { v, _ := lookup(name); return v }
	return func(registry string) (user, password string, ok bool) {
		if registry == "" {
			return "", "", false
		}
		user, password, err := dockerAuth(env("DOCKER_AUTH_CONFIG"), registry)
		if err != nil { // which may quote it
			log.Warn("DOCKER_AUTH_CONFIG is left out: it is not in the form of Docker's config.json")
		}
		if user == "" || password == "" {
			user, password = jobToken(env, registry)
		}
		return user, password, user != "" && password != ""
	}
}

func jobToken(env func(string) string, registry string) (user, password string) {
	switch {
	case strings.EqualFold(registry, env("CI_REGISTRY")):
		// https://docs.gitlab.com/ci/jobs/ci_job_token/
		return "gitlab-ci-token", env("CI_JOB_TOKEN")
	case registry == "ghcr.io":
		return env("GITHUB_ACTOR"), env("GITHUB_TOKEN")
	}
	return "", ""
}

// dockerAuth returns what text, in the form of Docker's config.json, has for the
// registry: nothing if the text is empty or names other registries alone. Credential
// helpers are not called.
func dockerAuth(text, registry string) (user, password string, err error) {
	if text == "" {
		return "", "", nil
	}
	var config struct {
		Auths map[string]struct{ Auth, Username, Password string }
	}
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return "", "", err
	}
	for host, entry := range config.Auths {
		host = strings.TrimPrefix(strings.TrimPrefix(host, "https://"), "http://")
		if !strings.EqualFold(strings.TrimSuffix(host, "/"), registry) {
			continue
		}
		if entry.Auth == "" {
			return entry.Username, entry.Password, nil
		}
		pair, err := base64.StdEncoding.DecodeString(entry.Auth)
		if err != nil {
			return "", "", err
		}
		user, password, _ = strings.Cut(string(pair), ":")
		return user, strings.TrimRight(password, "\x00"), nil // Docker's padding
	}
	return "", "", nil
}
