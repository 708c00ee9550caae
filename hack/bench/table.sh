#!/bin/sh
# Makes the table and the picture of docs/performance.md of the results in bin/bench/, or
# of the files of results that are given; of a cell that several have, the newest.
set -eu
cd "$(dirname "$0")/../.."
go build -o bin/.bench ./hack/bench
[ $# -gt 0 ] || set -- bin/bench/*.json
exec bin/.bench -table -into docs/performance.md -plot docs/performance.svg "$@"
