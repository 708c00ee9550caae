#!/bin/sh
# Says in one sentence what is missing of the Go toolchain.
set -eu
cd "$(dirname "$0")/.."
want=$(sed -n 's/^go //p' go.mod)
if ! command -v go >/dev/null 2>&1; then
	echo "muelle: Go $want or newer is needed to build and is not on the PATH: see https://go.dev/doc/install" >&2
	exit 1
fi
have=$(GOTOOLCHAIN=local go env GOVERSION | sed 's/^go//; s/[ -].*//')
oldest=$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n1)
if [ "$oldest" != "$want" ]; then
	echo "muelle: Go $want or newer is needed to build, this is Go $have: see https://go.dev/doc/install" >&2
	exit 1
fi
