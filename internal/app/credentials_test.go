package app

import "testing"

func TestRegistryCredentials(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"CI_REGISTRY": "registry.example.com:5050", "CI_JOB_TOKEN": "job", "GITHUB_ACTOR": "mona", "GITHUB_TOKEN": "hub",
	}
	cases := []struct {
		registry, user, password string
		without                  string // the variable that is not set
	}{
		{registry: "registry.example.com:5050", user: "gitlab-ci-token", password: "job"},
		{registry: "ghcr.io", user: "mona", password: "hub"},
		{registry: "registry.example.com:5050", without: "CI_JOB_TOKEN"},
		{registry: "ghcr.io", without: "GITHUB_TOKEN"},
		{registry: "registry.example.com"},
		{registry: "evil.ghcr.io"},
		{registry: "", without: "CI_REGISTRY"},
	}
	for _, c := range cases {
		lookup := func(name string) (string, bool) {
			if name == c.without {
				return "", false
			}
			v, ok := env[name]
			return v, ok
		}
		user, password, ok := registryCredentials(lookup)(c.registry)
		if ok != (c.user != "") || ok && (user != c.user || password != c.password) {
			t.Errorf("%q without %q: %q %q %v", c.registry, c.without, user, password, ok)
		}
	}
}
