// The peers of the comparison stay out of the module that is compared.
module github.com/ultrafast-ci/ultrafast/bench/render

go 1.26.0

replace github.com/ultrafast-ci/ultrafast => ../..

require (
	github.com/flosch/pongo2/v6 v6.0.0
	github.com/mitsuhiko/minijinja/minijinja-go/v2 v2.24.0
	github.com/ultrafast-ci/ultrafast v0.0.0-00010101000000-000000000000
)
