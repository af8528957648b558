#!/usr/bin/env bash
# Installs binaries of Ultrafast and puts them on PATH: install.sh NAME…
#
# A binary that checksums.txt names is downloaded, and kept only if its digest is
# the one that is committed there. Any other is built from the checkout that this
# script is part of, for which Go must be installed. Nothing else is tried.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

fail() { # CODE MESSAGE
  printf 'setup: %s\n' "$2" >&2
  exit "$1"
}

platform() {
  local os arch
  case "$(uname -s)" in
    Linux) os=linux ;;
    Darwin) os=darwin ;;
    MINGW* | MSYS* | CYGWIN*) os=windows ;;
    *) fail 3 "there are no binaries for the system $(uname -s)" ;;
  esac
  case "$(uname -m)" in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    *) fail 3 "there are no binaries for the processor $(uname -m)" ;;
  esac
  printf '%s_%s' "$os" "$arch"
}

sha256() { # FILE
  if command -v sha256sum > /dev/null; then
    sha256sum < "$1" | cut -d ' ' -f 1
  else
    shasum -a 256 < "$1" | cut -d ' ' -f 1
  fi
}

# entry prints "<sha256> <url>" of the file called $1, or nothing.
entry() {
  local sum url
  while read -r sum url; do
    case "$sum" in '' | '#'*) continue ;; esac
    if [ "${url##*/}" = "$1" ]; then
      printf '%s %s\n' "$sum" "$url"
      return
    fi
  done < "$here/checksums.txt"
}

download() { # SUM URL TARGET
  local got part="$3.part"
  curl --fail --silent --show-error --location --proto '=https' --retry 3 --max-time 300 --output "$part" "$2" ||
    fail 3 "$2 cannot be fetched"
  got=$(sha256 "$part")
  if [ "$got" != "$1" ]; then
    rm -f "$part"
    fail 1 "$2 has the digest $got, and $1 is committed"
  fi
  chmod 755 "$part"
  mv "$part" "$3"
}

build() { # NAME TARGET
  local door=${1#ultrafast-} link='-s -w -buildid='
  # The linker makes LC_UUID of the build id, and macOS 26 may not start a program without.
  if [ "$(uname -s)" = Darwin ]; then link='-s -w'; fi
  command -v go > /dev/null ||
    fail 3 "this commit has no released $1, and there is no Go to build it: put actions/setup-go before this step"
  (cd "$root" && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="$link" -o "$2" "./actions/$door") ||
    fail 3 "$1 cannot be built"
}

main() {
  local platform suffix='' bin name line
  [ $# -gt 0 ] || fail 2 "name a binary"
  for name in "$@"; do
    case "$name" in
      ultrafast | ultrafast-market | ultrafast-generate | ultrafast-cleanroom-test | ultrafast-validate | ultrafast-deploy) ;;
      *) fail 2 "there is no binary \"$name\"" ;;
    esac
  done
  platform=$(platform)
  case "$platform" in windows_*) suffix=.exe ;; esac
  bin=${RUNNER_TEMP:-${TMPDIR:-/tmp}}/ultrafast/bin
  mkdir -p "$bin"
  for name in "$@"; do
    line=$(entry "${name}_$platform$suffix")
    if [ -n "$line" ]; then
      download "${line% *}" "${line#* }" "$bin/$name$suffix"
    else
      build "$name" "$bin/$name$suffix"
    fi
    printf 'setup: %s\n' "$bin/$name$suffix" >&2
  done
  if [ -n "${GITHUB_PATH:-}" ]; then
    if command -v cygpath > /dev/null; then bin=$(cygpath -w "$bin"); fi
    printf '%s\n' "$bin" >> "$GITHUB_PATH"
  fi
}

main "$@"
