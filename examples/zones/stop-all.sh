#!/bin/sh
# Stops and removes the stack. The database's volume stays; with -v it goes too.
set -eu
cd "$(dirname "$0")"
exec muelle compose -f docker/compose.yaml down "$@"
