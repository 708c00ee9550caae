#!/bin/sh
# Lists the packages for the race detector: those that do not link BuildKit, whose
# compilation with it would take longer than the tests of everything else.
cd "$(dirname "$0")/.." || exit 1
go list -f '{{if not .Standard}}{{.ImportPath}} {{join .Deps " "}}{{end}}' ./... | grep -v github.com/moby/buildkit | cut -d' ' -f1
