#!/bin/sh
# Builds and runs the comparison with Debian's Docker against the binaries in bin/.
set -eu
cd "$(dirname "$0")/../.."
go build -o bin/.compare ./hack/compare
exec bin/.compare -bin bin "$@"
