#!/bin/sh
# vmsystem.sh FOLDER [PACKAGE…]: a minimal Debian with systemd, and with other packages,
# in which test/vm tries our unit and the systemd cgroup driver. It is made again when the
# version of one of them changes.
set -eu
dir=${1:?usage: vmsystem.sh FOLDER [PACKAGE…]}
shift
suite=bookworm
include=systemd,systemd-sysv version=$suite
for package in systemd "$@"; do
	version=$version-$(apt-cache policy "$package" 2>/dev/null | sed -n 's/.*Candidate: //p')
done
for package; do include=$include,$package; done
[ "$(cat "$dir.version" 2>/dev/null)" = "$version" ] && exit 0
mkdir -p "$(dirname "$dir")"
rm -rf "$dir" "$dir.new"
log=$(mktemp)
if ! mmdebstrap --quiet --mode=root --variant=minbase --include="$include" "$suite" "$dir.new" >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	rm -rf "$dir.new" "$log"
	echo "vmsystem.sh: mmdebstrap could not make a $suite" >&2
	exit 1
fi
rm -f "$log"
mv "$dir.new" "$dir"
echo "$version" >"$dir.version"
echo "system for the virtual machine: Debian $version"
