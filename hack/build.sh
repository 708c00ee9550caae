#!/bin/sh
# Builds the binaries for GOARCH into a folder: hack/build.sh FOLDER [LDFLAGS]. muelle-oci
# and muelle-shim become one file with two names: see internal/shimfile.
set -eu
cd "$(dirname "$0")/.."
dir=$1 flags=${2:-}
parts=$dir/.parts
mkdir -p "$parts"
trap 'rm -rf "$parts"' EXIT
go build -trimpath -ldflags "$flags" -o "$dir/" $(go list ./cmd/... | grep -v -e /muelle-oci -e /muelle-shim)
# Without a build id, by which a later `go build -o FOLDER ./cmd/...` would take the joined
# file for muelle-oci and leave it there with an old shim in it.
go build -trimpath -ldflags "$flags -buildid=" -o "$parts/" ./cmd/muelle-oci ./cmd/muelle-shim
GOARCH='' go run ./hack/join "$parts" "$dir"
