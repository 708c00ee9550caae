# Checks of podman with systemd's control groups and with muelle-oci as its runtime; runc
# goes the same way beside it, and what both say must be the same. Appended to the script
# of systemd's machine after its first lines.
podman import -q -c 'CMD ["sh"]' -c 'ENV PATH=/bin' /muelle/busybox.tar localhost/box >/dev/null
# nearest FILE: what the container's group says, or the one above it that says anything.
nearest() {
	at=/sys/fs/cgroup$group
	while [ "$at" != /sys/fs/cgroup/machine.slice ] && [ "$at" != / ]; do
		value=$(cat "$at/$1" 2>/dev/null)
		case $value in max* | '') at=$(dirname "$at") ;; *) break ;; esac
	done
	echo "$value"
}
for runtime in muelle-oci runc; do
	p() { podman --cgroup-manager systemd --runtime "$(command -v $runtime)" "$@"; }
	id=$(p run -d --name one --network none -m 64m --memory-swap 64m --pids-limit 20 --cpus 0.5 localhost/box sleep 1000)
	scope=libpod-$id.scope
	group=$(cut -d: -f3 "/proc/$(p inspect -f '{{.State.Pid}}' one)/cgroup")
	check "$runtime: run" "$(p inspect -f '{{.Name}} {{.State.Status}} {{.OCIRuntime}}' one)" "one running $(command -v $runtime)"
	check "$runtime: a scope of machine.slice" "$(systemctl is-active "$scope") $(echo "$group" | grep -o "^/machine.slice/$scope")" "active /machine.slice/$scope"
	check "$runtime: limits" "$(nearest memory.max; nearest pids.max; nearest cpu.max)" "67108864
20
50000 100000"
	check "$runtime: exec" "$(p exec -w /tmp -e A=b one sh -c 'pwd; echo $A; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max')" "/tmp
b
67108864
20"
	p exec one sh -c 'exit 3'
	check "$runtime: exec's status" "$?" 3
	check "$runtime: exec's group" "$(p exec -d one sleep 999 >/dev/null; for pid in $(pidof sleep); do cut -d: -f3 /proc/$pid/cgroup; done | sort -u)" "$group"
	check "$runtime: stats" "$(p stats --no-stream --format '{{.Name}} {{.PIDS}} {{.MemUsage}}' one | sed 's/[0-9.]*[kM]*B \//N \//')" 'one 2 N / 67.11MB'
	p update -m 80m --memory-swap 80m --cpus 0.25 one >/dev/null
	systemctl daemon-reload
	check "$runtime: update" "$(nearest memory.max; nearest cpu.max)" "83886080
25000 100000"
	p pause one >/dev/null
	check "$runtime: pause" "$(p inspect -f '{{.State.Status}}' one; cat /sys/fs/cgroup"$group"/cgroup.events | grep frozen)" "paused
frozen 1"
	p unpause one >/dev/null
	check "$runtime: unpause" "$(p inspect -f '{{.State.Status}}' one; cat /sys/fs/cgroup"$group"/cgroup.events | grep frozen)" "running
frozen 0"
	check "$runtime: top" "$(p top one comm | sort | tr '\n' ' ')" 'COMMAND sleep sleep '
	check "$runtime: stop" "$(p stop -t 1 one >/dev/null 2>&1; p inspect -f '{{.State.Status}} {{.State.ExitCode}}' one)" 'exited 137'
	await gone "$scope" "machine.slice/$scope"
	check "$runtime: no scope is left" "$(systemctl is-active "$scope")" inactive
	check "$runtime: start again" "$(p start one >/dev/null; p exec one echo works)" works
	check "$runtime: rm -f" "$(p rm -f -t 0 one >/dev/null; p ps -aq)" ''
	p run --rm --network none localhost/box sh -c 'exit 7'
	check "$runtime: exit status" "$?" 7
	p run --name oom --network none -m 16m --memory-swap 16m localhost/box tail /dev/zero >/dev/null 2>&1
	check "$runtime: out of memory" "$?" 137 # whether OOMKilled is set is conmon's luck, with both
	p rm oom >/dev/null
	check "$runtime: a slice as parent" "$(p run --rm --network none --cgroup-parent test-deep.slice --cgroupns host localhost/box cut -d: -f3 /proc/self/cgroup | grep -o '^/test.slice/test-deep.slice/libpod-')" '/test.slice/test-deep.slice/libpod-'
	check "$runtime: what is inside" "$(p run --rm --network none localhost/box cat /proc/self/cgroup)" '0::/'
	await sh -c '! systemctl list-units --all --plain --no-legend "libpod-*" | grep .'
	check "$runtime: nothing is left" "$(systemctl list-units --all --plain --no-legend 'libpod-*'; find /sys/fs/cgroup -name 'libpod-*' -type d)" ''
done
