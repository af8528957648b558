#!/usr/bin/env bash
# Brings the static busybox of the image flavours that have a shell into
# build/busybox/<architecture>, from Debian's package busybox-static. It changes
# nothing on the machine: apt works in directories of its own. The program that
# builds the images accepts only the digests that are pinned there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

version=1:1.35.0-4+deb12u1+b1
suite=bookworm
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

for tool in apt-get dpkg-deb; do
  command -v "$tool" > /dev/null || { echo "busybox: $tool is not there; the image flavours with a shell are left out" >&2; exit 0; }
done
[ -e "$keyring" ] || { echo "busybox: $keyring is not there; the image flavours with a shell are left out" >&2; exit 0; }

if [ -e build/busybox/amd64 ] && [ -e build/busybox/arm64 ]; then exit 0; fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p build/busybox "$work"/{lists/partial,cache/archives/partial,etc}
echo "deb [signed-by=$keyring] $mirror $suite main" > "$work/sources.list"
: > "$work/status"

for arch in amd64 arm64; do
  options=(-qq -o APT::Sandbox::User=root -o "APT::Architecture=$arch" -o "APT::Architectures::=$arch"
    -o "Dir::Etc::SourceList=$work/sources.list" -o "Dir::Etc::SourceParts=/dev/null"
    -o "Dir::State::Lists=$work/lists" -o "Dir::State::Status=$work/status" -o "Dir::Cache=$work/cache")
  apt-get "${options[@]}" update
  (cd "$work" && apt-get "${options[@]}" download "busybox-static=$version")
  dpkg-deb --fsys-tarfile "$work"/busybox-static_*_"$arch".deb | tar -xO ./bin/busybox > "$work/$arch"
  mv "$work/$arch" "build/busybox/$arch"
done
