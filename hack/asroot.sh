#!/bin/sh
# Runs a command as root, or says that it must be.
[ "$(id -u)" = 0 ] && exec "$@"
echo "muelle: this needs root, because containers do: run it as root or with sudo -E" >&2
exit 1
