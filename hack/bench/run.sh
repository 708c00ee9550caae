#!/bin/sh
# Builds the benchmark and runs it against the binaries in bin/. The results are kept in
# bin/bench/ for table.sh: of the whole, of a part, or, with other flags, of what those say.
set -eu
cd "$(dirname "$0")/../.."
mkdir -p bin/bench
go build -o bin/.bench ./hack/bench
save=bin/bench/$(date -u +%Y%m%d-%H%M%S).json
exec bin/.bench -bin bin -plot bin/performance.svg -save "$save" -command "${BENCH_COMMAND:-hack/bench/run.sh${*:+ $*}}" "$@"
