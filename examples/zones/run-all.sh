#!/bin/sh
# Builds and starts the whole stack, and returns when it is healthy.
set -eu
cd "$(dirname "$0")"
exec muelle compose -f docker/compose.yaml up -d --build --wait "$@"
