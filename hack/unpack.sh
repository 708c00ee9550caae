#!/bin/sh
# unpack.sh FOLDER PACKAGE: a Debian package of this host's release, taken apart into
# FOLDER (nothing is installed). A folder that has its newest version already is left alone.
set -eu
dir=${1:?usage: unpack.sh FOLDER PACKAGE} name=${2:?usage: unpack.sh FOLDER PACKAGE}
newest() {
	version=$(apt-cache policy "$name" 2>/dev/null | sed -n 's/.*Candidate: //p')
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
newest || { apt-get -qq update && newest; } || { echo "unpack.sh: apt knows no $name" >&2; exit 1; }
[ "$(cat "$dir/version" 2>/dev/null)" = "$name $version" ] && exit 0
fetch || { apt-get -qq update && newest && fetch; }
echo "for the virtual machine: $name $version"
