# The five phases and `ultrafast`, which joins them, from source: what the actions of
# the main branch run. Releases use images that `go run ./images` builds, whose
# digests anyone can repeat.
#
#   docker build -t ultrafast .                               everything
#   docker build -t ultrafast-market --build-arg PHASE=market .   one phase
#
# Each program lies in / under its name, so an entrypoint chooses: /market,
# /generate, /cleanroom-test, /validate, /deploy. The default, /ultrafast, is the
# joined program, or the one phase of an image that has only one. There is no USER and
# no WORKDIR: GitHub mounts the workspace of whoever the runner is, and the programs
# drop to its owner by themselves.
FROM golang:1.26.8 AS build
ARG GOPROXY=https://proxy.golang.org,direct
COPY go.mod go.sum /src/
RUN go mod download -C /src
COPY . /src/
# Three dots are Go's "all below".
ARG PHASE=...
ARG TAGS=
RUN mkdir -p /out/tmp && chmod 1777 /out/tmp \
 && export CGO_ENABLED=0 GOFLAGS='-trimpath -buildvcs=false' \
 && go build -C /src -ldflags='-s -w -buildid=' -o "internal/sandbox/embedded/helper_linux_$(go env GOARCH)" ./internal/sandbox/embedded/helper \
 && go build -C /src -tags="helper${TAGS:+,$TAGS}" -ldflags='-s -w -buildid=' -o /out/ "./actions/$PHASE" \
 && { [ -e /out/ultrafast ] || ln -s "$PHASE" /out/ultrafast; }

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /
ENTRYPOINT ["/ultrafast"]
