# make help lists the targets.

GO         ?= go
BIN        := build/bin
DOORS      := market generate cleanroom-test validate deploy
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# Without the state of a repository: equal source gives equal bytes and equal claims.
# A Mac's linker needs the build id, of which it makes the LC_UUID that macOS asks for.
BUILD       = -trimpath -buildvcs=false -ldflags='-s -w $(if $(filter darwin,$(shell $(GO) env GOOS)),,-buildid=)'

export CGO_ENABLED ?= 0

.PHONY: help build helper install doors lint test test-platforms test-runners test-hostile test-escape test-gc test-vm release-actions demo fuzz service-images bench-doors bench-start bench-graph bench-render bench-cleanroom clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: helper ## build the six binaries into build/bin
	@mkdir -p $(BIN)
	@for d in $(DOORS); do $(GO) build $(BUILD) $(EMBED) -o $(BIN)/ultrafast-$$d ./actions/$$d || exit 1; done
	@$(GO) build $(BUILD) $(EMBED) -o $(BIN)/ultrafast ./actions/ultrafast

install: helper ## install the binaries into the directory of go install
	@to="$$($(GO) env GOBIN)"; to="$${to:-$$($(GO) env GOPATH | cut -d: -f1)/bin}"; \
	for d in $(DOORS); do $(GO) build $(BUILD) $(EMBED) -o "$$to/ultrafast-$$d" ./actions/$$d || exit 1; done; \
	$(GO) build $(BUILD) $(EMBED) -o "$$to/ultrafast" ./actions/ultrafast || exit 1; \
	echo "installed ultrafast and ultrafast-* into $$to"; \
	case ":$$PATH:" in *":$$to:"*) ;; *) echo "which PATH does not name: export PATH=\"$$to:\$$PATH\"" ;; esac

# The small program that the clean room starts lies in the others: an overlay stands for
# the file, so nothing is written into the source. Without it, as with `go install`, a
# program starts itself again.
HELPER := helper_linux_$(shell $(GO) env GOARCH)
# make build TAGS=testcontainers links testcontainers-go into cleanroom-test too.
comma  := ,
ifneq ($(filter linux/amd64 linux/arm64,$(shell $(GO) env GOOS)/$(shell $(GO) env GOARCH)),)
EMBED  := -tags=helper$(if $(TAGS),$(comma)$(TAGS)) -overlay=$(CURDIR)/build/$(HELPER).json
helper:
	@mkdir -p build
	@$(GO) build $(BUILD) -o build/$(HELPER) ./internal/sandbox/embedded/helper
	@printf '{"Replace":{"%s/internal/sandbox/embedded/%s":"%s/build/%s"}}' '$(CURDIR)' $(HELPER) '$(CURDIR)' $(HELPER) >build/$(HELPER).json
else
EMBED  := $(if $(TAGS),-tags=$(TAGS))
helper:
endif

doors: ## write action.yml, gitlab.yml, tekton.yaml, README tables and schema from the doors
	$(GO) test ./actions/ultrafast -run TestDoors -update

lint: ## formatting, vet on three systems, staticcheck
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "run gofmt -w on:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	GOOS=windows $(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# Programs built for the race detector wait a second when they end, for other threads
# to still race; the tests end thousands of them.
test: export GORACE := atexit_sleep_ms=0
test: ## everything that CI checks; sets up what it needs and stops what it starts
	@.ci/setup
	@$(MAKE) --no-print-directory lint
	@if command -v gcc >/dev/null 2>&1; then CGO_ENABLED=1 CC=gcc $(GO) test -race -timeout 15m ./... ; \
	elif command -v clang >/dev/null 2>&1; then CGO_ENABLED=1 CC=clang $(GO) test -race -timeout 15m ./... ; \
	else $(GO) test -timeout 15m ./... ; fi
	@$(MAKE) --no-print-directory demo

# The list, without the frame that go test gives it.
test-escape: ## every attempt to leave a sandbox, and what refused it, on each back end; all must fail
	@ULTRAFAST_LONG=1 $(GO) test -count=1 -timeout 20m -v -run '^Test(Contract(Full|Reduced|None|Docker|Podman)$$|Escape)/^escape' ./internal/sandbox/... >build/test-escape.log 2>&1; code=$$?; \
	grep -E '(^ {10}|: [a-z])[^=]|ESCAPED|--- (FAIL|SKIP)|^(FAIL|panic|ok)' build/test-escape.log; exit $$code

test-gc: ## 100 killed runs on each back end, and gc: nothing may be left
	ULTRAFAST_LONG=1 $(GO) test -count=1 -timeout 60m -v -run '^TestKilledRuns' ./internal/sandbox/...

test-vm: ## the embedded clean room where control groups are of version 2 alone, in a virtual machine
	@mkdir -p build/vm
	@$(GO) test -c -o build/vm/embedded.test ./internal/sandbox/embedded
	cd internal/sandbox/embedded && ULTRAFAST_PATIENCE=10 ../../../.ci/vm ../../../build/vm/embedded.test -test.v -test.timeout 55m $(VM_FLAGS)

test-runners: ## real projects of every language through the clean room, with the public registries; figures of many files
	ULTRAFAST_LONG=1 $(GO) test -count=1 -timeout 30m -v -run 'TestDependencies|TestManyFiles|TestPrepare' ./examples ./steps/cleanroom

test-hostile: ## hostile values through every flag, file and test name of every verb, on every platform
	ULTRAFAST_LONG=1 $(GO) test -count=1 -timeout 60m -run Hostile ./actions/ultrafast ./internal/platform/... ./internal/report ./internal/app

test-platforms: ## the example through all jobs of act, GitLab and Tekton; installs what that needs
	@.ci/setup-platforms
	ULTRAFAST_PLATFORMS=act-host,act-image,gitlab,tekton $(GO) test -count=1 -timeout 60m -v ./actions/ultrafast/platforms

# Built twice, from the work tree and from what is committed, in another directory:
# the digests are those that anyone gets.
release-actions: ## write build/release and build/binaries, HEAD by digest: make release-actions TAG=v1.2.3
	@test -n "$(TAG)" || { echo "write make release-actions TAG=v1.2.3" >&2; exit 2; }
	@images/busybox.sh
	@rm -rf build/release build/binaries && mkdir -p build/release/build
	@git archive HEAD | tar -x -C build/release
	@cp -R build/busybox build/release/build/
	$(GO) run ./images --tag $(TAG) --output layout:build/images --binaries build/binaries --actions build/release
	$(GO) run ./images --tag $(TAG) --source build/release --check build/release

demo: build ## take the example to a running service, twice, under load
	@$(GO) run ./examples/demo -bin $(BIN) -dir build/demo

service-images: ## busybox, redis and postgres for tests, from Debian packages, into build/services
	@$(GO) run ./images/services --output layout:build/services

FUZZTIME ?= 10m
fuzz: ## run every fuzz target for FUZZTIME (default 10m)
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; \
	done

bench-doors: ## what act and containers add to the programs; sizes of images
	@.ci/setup
	ULTRAFAST_PLATFORMS=act-host $(GO) test -count=1 -timeout 30m -v ./actions/ultrafast/platforms -run TestFigures -figures

bench-start: build ## sizes and start-up times of the six binaries
	@$(GO) run ./bench/start -bin $(BIN)

bench-graph: ## the graph engine beside its peers; installs them with npm and pip, writes bench/graph/RESULTS.md
	@$(GO) run ./bench/graph

bench-render: build ## the Tera engine beside its peers, and 5,000 files beside tar; installs what that needs
	@mkdir -p build/bench-render
	@cd bench/render && $(GO) build -o ../../build/bench-render/render .
	@build/bench-render/render -bin $(BIN)/ultrafast-generate -results bench/render/RESULTS.md

bench-cleanroom: build ## the clean room beside docker, podman, bubblewrap, runc and testcontainers; writes bench/cleanroom/RESULTS.md
	@images/busybox.sh
	@$(GO) run ./images/services --output layout:build/services || echo "without images of services: sections that need them say so" >&2
	@mkdir -p build/bench-cleanroom
	@cd bench/cleanroom && $(GO) build $(BUILD) $(EMBED) -o ../../build/bench-cleanroom/cleanroom .
	@build/bench-cleanroom/cleanroom -bin $(BIN) -results bench/cleanroom/RESULTS.md

clean: ## remove what was built
	rm -rf build
