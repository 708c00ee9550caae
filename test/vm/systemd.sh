# Runs in the virtual machine, where systemd is the first process, and says on the
# console which checks pass.
exec >/dev/console 2>&1
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin MUELLE_AUTOSTART=0 HOME=/root

check() { # NAME GOT WANT
	if [ "$2" = "$3" ]; then
		echo "--- PASS: $1"
	else
		echo "--- FAIL: $1"
		echo "got:  $2"
		echo "want: $3"
	fi
}
# await COMMAND…: until it succeeds, a minute at most.
await() {
	for _ in $(seq 300); do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.2
	done
	return 1
}
# A file of the container's group: CONTROLLER V1FILE V2FILE.
version=2
[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ] || version=1
limit() {
	if [ $version = 2 ]; then cat "/sys/fs/cgroup/$below/$3"; else cat "/sys/fs/cgroup/$1/$below/$2"; fi
}
# The groups of a process, each once, without systemd's name for the container.
groups() { cut -d: -f3 "/proc/$1/cgroup" | sed 's/muelle-[0-9a-f]*.scope/muelle-ID.scope/' | sort -u; }
gone() { ! systemctl is-active --quiet "$1" && [ -z "$(find /sys/fs/cgroup -path "*/$2" -type d)" ]; }

check 'the unit is up' "$(systemctl is-active muelle.service)" active
muelle import -c 'CMD ["sh"]' -c 'ENV PATH=/bin' /muelle/busybox.tar box >/dev/null
check 'info' "$(muelle info --format '{{.CgroupDriver}} {{.CgroupVersion}}')" "systemd $version"

id=$(muelle run -d --name box1 -m 64m --pids-limit 20 --cpus 0.5 box sleep 1000)
pid=$(muelle inspect -f '{{.State.Pid}}' box1)
scope=muelle-$id.scope
below=system.slice/$scope/container
check 'a container has a scope' "$(groups "$pid")" '/system.slice/muelle-ID.scope/container'
check 'which is active' "$(systemctl is-active "$scope")" active
check 'and delegated' "$(systemctl show -p Delegate --value "$scope")" yes
check 'limits' "$(limit memory memory.limit_in_bytes memory.max; limit pids pids.max pids.max; limit cpu cpu.cfs_quota_us cpu.max | cut -d' ' -f1)" "67108864
20
50000"
check 'only the container is limited' "$(limit memory cgroup.procs cgroup.procs)" "$pid"
[ $version = 1 ] || check 'its own view' "$(muelle exec box1 cat /proc/self/cgroup)" '0::/'
muelle update -m 80m --memory-swap -1 box1 >/dev/null
check 'update' "$(limit memory memory.limit_in_bytes memory.max)" 83886080
systemctl daemon-reload
check 'a reload of systemd changes nothing' "$(limit memory memory.limit_in_bytes memory.max; limit pids pids.max pids.max)" "83886080
20"
muelle pause box1 >/dev/null
check 'pause' "$(limit freezer freezer.state cgroup.events | grep -c -e FROZEN -e 'frozen 1')" 1
muelle unpause box1 >/dev/null

systemctl restart muelle.service
check 'a restart of the unit spares containers' "$(muelle inspect -f '{{.State.Pid}} {{.State.Status}}' box1)" "$pid running"
kill -9 "$(systemctl show -p MainPID --value muelle.service)"
await muelle version
check 'kill -9 of the daemon too' "$(muelle inspect -f '{{.State.Pid}} {{.State.Status}}' box1) $(muelle exec box1 echo works)" "$pid running works"

muelle run --name oom -m 16m --memory-swap 16m box tail /dev/zero >/dev/null 2>&1
check 'out of memory' "$? $(muelle inspect -f '{{.State.OOMKilled}}' oom)" '137 true'
muelle run --name ends box sh -c 'exit 7'
check 'exit status' "$?" 7
muelle run -d --name sliced --cgroup-parent test-deep.slice box sleep 1000 >/dev/null
check 'a slice as parent' "$(groups "$(muelle inspect -f '{{.State.Pid}}' sliced)")" '/test.slice/test-deep.slice/muelle-ID.scope/container'
check 'a parent that is none' "$(muelle create --cgroup-parent /x box 2>&1 | grep -o 'cgroup-parent for systemd.*')" 'cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"'

# muelle-oci with --systemd-cgroup, as podman calls it: nothing of ours runs beside it.
mkdir -p /tmp/bundle/rootfs && muelle create --name tree box >/dev/null && muelle export tree | tar -x -C /tmp/bundle/rootfs && muelle rm tree >/dev/null
cat >/tmp/bundle/config.json <<'JSON'
{"ociVersion":"1.0.2","root":{"path":"rootfs"},"hostname":"oci",
"annotations":{"org.systemd.property.RuntimeMaxSec":"uint64 3600"},
"process":{"args":["sleep","1000"],"cwd":"/","env":["PATH=/bin"],"user":{"uid":0,"gid":0}},
"mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
"linux":{"cgroupsPath":"test-oci.slice:libpod:CID","resources":{"memory":{"limit":67108864},"pids":{"limit":9}},
"namespaces":[{"type":"pid"},{"type":"mount"},{"type":"ipc"},{"type":"uts"},{"type":"network"},{"type":"cgroup"}]}}
JSON
oci() { muelle-oci --systemd-cgroup "$@"; }
oci create --bundle /tmp/bundle --pid-file /tmp/oci.pid one </dev/null >/tmp/oci.out 2>&1 # its streams stay open
check 'oci: create' "$? $(cat /tmp/oci.out)" '0 '
pid=$(cat /tmp/oci.pid) scope=libpod-CID.scope
below=test.slice/test-oci.slice/$scope/container
check 'oci: the scope' "$(systemctl is-active "$scope") $(systemctl show -p Delegate --value "$scope") $(systemctl show -p RuntimeMaxUSec --value "$scope") $(cut -d: -f3 "/proc/$pid/cgroup" | sort -u)" "active yes 1h /$below"
check 'oci: start' "$(oci start one 2>&1; oci exec one hostname)" oci
check 'oci: limits' "$(limit memory memory.limit_in_bytes memory.max; limit pids pids.max pids.max)" "67108864
9"
check 'oci: update' "$(oci update --memory 80M --memory-swap -1 one; systemctl daemon-reload; limit memory memory.limit_in_bytes memory.max)" 83886080
check 'oci: pause' "$(oci pause one; oci list --format json | grep -o '"status":"[a-z]*"'; oci resume one)" '"status":"paused"'
check 'oci: a second one of that name' "$(oci create --bundle /tmp/bundle two </dev/null 2>&1 | grep -o 'is not empty')" 'is not empty'
check 'oci: nothing is in the way of it' "$(oci list -q)" one
check 'oci: a wrong path' "$(sed -i 's/test-oci.slice:libpod:CID/machine/' /tmp/bundle/config.json; oci create --bundle /tmp/bundle two </dev/null 2>&1 | grep -o 'expected cgroupsPath.*instead')" 'expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"machine\" instead'
oci kill one KILL
check 'oci: delete' "$(await oci delete one; oci list -q)" ''
await gone "$scope" "test-oci.slice/$scope"
check 'oci: the scope goes with the container' "$(systemctl is-active "$scope")" inactive
sed -i 's/machine/:alone:X/' /tmp/bundle/config.json
sed -i 's/"sleep","1000"/"cat","\/proc\/self\/cgroup"/; s/,{"type":"cgroup"}//' /tmp/bundle/config.json
check 'oci: run' "$(oci run --bundle /tmp/bundle three | cut -d: -f3 | sort -u)" /system.slice/alone-X.scope/container

muelle rm -f box1 oom ends sliced >/dev/null
await gone "$scope" "system.slice/$scope"
check 'the scope goes with the container' "$(systemctl is-active "$scope")" inactive
check 'no scope is left' "$(await sh -c '! systemctl list-units --all --plain --no-legend "muelle-*.scope" | grep .'; systemctl list-units --all --plain --no-legend 'muelle-*.scope')" ''
systemctl stop muelle.service
check 'no group is left' "$(find /sys/fs/cgroup -name 'muelle*' -type d)" ''
check 'nothing failed' "$(systemctl list-units --failed --plain --no-legend 'muelle*')" ''
echo 'muelle-vm: all checks were made'
systemctl poweroff --force --force
