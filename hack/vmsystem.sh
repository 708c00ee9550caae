#!/bin/sh
# vmsystem.sh FOLDER: a minimal Debian with systemd, in which test/vm tries our unit and
# the systemd cgroup driver. It is made again when the version of systemd changes.
set -eu
dir=${1:?usage: vmsystem.sh FOLDER}
suite=bookworm
version=$suite-$(apt-cache policy systemd 2>/dev/null | sed -n 's/.*Candidate: //p')
[ "$(cat "$dir.version" 2>/dev/null)" = "$version" ] && exit 0
mkdir -p "$(dirname "$dir")"
rm -rf "$dir" "$dir.new"
log=$(mktemp)
if ! mmdebstrap --quiet --mode=root --variant=minbase --include=systemd,systemd-sysv "$suite" "$dir.new" >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	rm -rf "$dir.new" "$log"
	echo "vmsystem.sh: mmdebstrap could not make a $suite" >&2
	exit 1
fi
rm -f "$log"
mv "$dir.new" "$dir"
echo "$version" >"$dir.version"
echo "system for the virtual machine: Debian $version"
