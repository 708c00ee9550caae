#!/bin/sh
# Builds and runs the benchmark against the binaries in bin/.
set -eu
cd "$(dirname "$0")/../.."
go build -o bin/.bench ./hack/bench
exec bin/.bench -bin bin -plot bin/performance.svg "$@"
