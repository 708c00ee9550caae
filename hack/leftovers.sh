#!/bin/sh
# Lists what of Muelle's is on this machine, or, given such a list, fails if there is
# more now: a process, mount, interface, nftables table, cgroup or folder that a test
# has left behind.
#
#   leftovers.sh list >BEFORE
#   leftovers.sh check BEFORE
set -u

list() {
	for p in /proc/[0-9]*; do
		# A shim is called after its container.
		case $(cat "$p/comm" 2>/dev/null) in
		muelled | muelle-shim | shim:* | muelle-tls | muelle-registry) ;;
		*) continue ;;
		esac
		args=$({ tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null)
		# A zombie waits for a parent that is not ours, and has none.
		[ -z "$args" ] || echo "process ${p#/proc/} $args"
	done
	grep -i muelle /proc/self/mountinfo | sed 's/^/mount /'
	ls /sys/class/net | grep -E '^mue' | sed 's/^/interface /'
	nft list tables 2>/dev/null | grep muelle
	find /sys/fs/cgroup -maxdepth 2 -type d -name 'muelle*' | sed 's/^/cgroup /'
	find /var/tmp /tmp -maxdepth 1 -name 'muelle-*' | sed 's/^/folder /'
	# A sysctl that the engine switches on with its first network, and off with its last.
	[ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ] || echo 'net.ipv4.ip_forward is on'
}

case ${1:-} in
list) list | sort ;;
check)
	left=$(list | sort | comm -13 "$2" -)
	if [ -n "$left" ]; then
		echo 'left behind by the tests:'
		echo "$left"
		exit 1
	fi
	echo 'no leftovers'
	;;
*)
	echo 'usage: leftovers.sh list | check FILE' >&2
	exit 2
	;;
esac
