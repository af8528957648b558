// The peers of the comparison stay out of the module that is compared.
module github.com/ultrafast-ci/ultrafast/bench/cleanroom

go 1.26.0

replace github.com/ultrafast-ci/ultrafast => ../..

require github.com/ultrafast-ci/ultrafast v0.0.0-00010101000000-000000000000

require (
	github.com/landlock-lsm/go-landlock v0.11.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	kernel.org/pub/linux/libs/security/libcap/psx v1.2.77 // indirect
)
