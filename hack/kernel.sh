#!/bin/sh
# kernel.sh FOLDER: Debian's cloud kernel, taken apart into FOLDER (nothing is installed
# on this host). A folder that has the newest version already is left alone.
set -eu
dir=${1:?usage: kernel.sh FOLDER}
newest() {
	name=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: //p' | head -n 1)
	version=$(apt-cache policy "${name:-none}" 2>/dev/null | sed -n 's/.*Candidate: //p')
	[ -n "$version" ]
}
fetch() {
	work=$(mktemp -d "$dir.XXXXXX")
	trap 'rm -rf "$work"' EXIT INT TERM
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$name=$version") || return 1
	dpkg-deb -x "$work"/*.deb "$work/tree"
	echo "$name $version" >"$work/tree/version"
	rm -rf "$dir"
	mv "$work/tree" "$dir"
}
mkdir -p "$(dirname "$dir")"
newest || { apt-get -qq update && newest; } || { echo 'kernel.sh: apt knows no linux-image-cloud-amd64' >&2; exit 1; }
[ "$(cat "$dir/version" 2>/dev/null)" = "$name $version" ] && exit 0
fetch || { apt-get -qq update && newest && fetch; }
echo "kernel for the virtual machine: $name $version"
