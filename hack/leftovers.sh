#!/bin/sh
# Fails if a test left a process, mount, namespace, interface, nftables table or
# cgroup of Muelle's on this machine. What the user's own daemon (default places)
# and the demo have is not meant.
set -u
found=0
report() {
	[ -z "$2" ] && return
	found=1
	echo "left behind, $1:"
	echo "$2" | sed 's/^/  /'
}
mine='muelle-test|/muelle-e2e'
report processes "$(ps -eo pid,args | grep -E "$mine" | grep -vE 'grep|leftovers')"
report mounts "$(grep -E "$mine" /proc/self/mountinfo)"
report cgroups "$(find /sys/fs/cgroup -maxdepth 3 -type d -name 'muelle-????????' 2>/dev/null | while read -r d; do
	pgrep -f 'muelled.*muelle-demo' >/dev/null && [ "$(basename "$d")" = "muelle-$(printf /var/lib/muelle-demo | sha256sum | cut -c1-8)" ] || echo "$d"
done)"
if command -v nft >/dev/null 2>&1; then
	report 'nftables tables' "$(nft list tables 2>/dev/null | grep -E 'muelle-[0-9a-f]{8}' | grep -v "muelle-$(printf /var/lib/muelle-demo | sha256sum | cut -c1-8)")"
fi
[ $found = 0 ] && echo 'no leftovers'
exit $found
