#!/bin/sh
# kernel.sh FOLDER: Debian's cloud kernel, taken apart into FOLDER (nothing is installed
# on this host). A folder that has the newest version already is left alone.
set -eu
dir=${1:?usage: kernel.sh FOLDER}
newest() {
	name=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: //p' | head -n 1)
	[ -n "$name" ]
}
newest || { apt-get -qq update && newest; } || { echo 'kernel.sh: apt knows no linux-image-cloud-amd64' >&2; exit 1; }
exec "$(dirname "$0")/unpack.sh" "$dir" "$name"
