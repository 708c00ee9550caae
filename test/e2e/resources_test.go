//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unified: cgroup v2 alone, as in the virtual machine.
func unified() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// groupFile reads a file of a running container's control group, as the host sees it:
// v1 names a controller and its file, v2 the file of the unified hierarchy.
func groupFile(t *testing.T, c client, name, controller, v1, v2 string) string {
	t.Helper()
	path := groupDir(t, c, name, controller)
	file := v1
	if unified() {
		file = v2
	}
	data, err := os.ReadFile(filepath.Join(path, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

func groupDir(t *testing.T, c client, name, controller string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/" + c.must(t, "inspect", "-f", "{{.State.Pid}}", name) + "/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if unified() && f[0] == "0" {
			return filepath.Join("/sys/fs/cgroup", f[2])
		}
		for name := range strings.SplitSeq(f[1], ",") {
			if name == controller && !unified() {
				return filepath.Join("/sys/fs/cgroup", controller, f[2])
			}
		}
	}
	t.Fatalf("no group of controller %q in %s", controller, data)
	return ""
}

// limit is a limit of a running container and where it is seen.
type limit struct{ name, controller, v1, v2, want1, want2 string }

func checkLimits(t *testing.T, c client, name string, limits []limit) {
	t.Helper()
	for _, l := range limits {
		want := l.want1
		if unified() {
			want = l.want2
		}
		if got := groupFile(t, c, name, l.controller, l.v1, l.v2); got != want {
			t.Errorf("%s: %q, want %q", l.name, got, want)
		}
	}
}

// disk is the device that the test's own folder lies on, as /dev/NAME and MAJOR:MINOR.
func disk(t *testing.T) (path, number string) {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(world.dir, &st); err != nil {
		t.Fatal(err)
	}
	number = fmt.Sprintf("%d:%d", st.Dev>>8&0xfff, st.Dev&0xff|st.Dev>>12&0xfff00)
	link, err := filepath.EvalSymlinks("/sys/dev/block/" + number)
	if err != nil {
		t.Fatalf("find the disk of %s: %v", world.dir, err)
	}
	if _, err := os.Stat(filepath.Join(link, "partition")); err == nil {
		link = filepath.Dir(link) // limits are for whole disks
		data, err := os.ReadFile(filepath.Join(link, "dev"))
		if err != nil {
			t.Fatal(err)
		}
		number = strings.TrimSpace(string(data))
	}
	return "/dev/" + filepath.Base(link), number
}

//muelle:ring
func TestLimitsAreSetAndChanged(t *testing.T) {
	dev, number := disk(t)
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "-m", "64m", "--memory-reservation", "32m", "--memory-swap", "100m",
			"--cpu-period", "50000", "--cpu-quota", "20000", "-c", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "33",
			"--device-read-bps", dev+":1mb", "--device-write-bps", dev+":2mb", "--device-read-iops", dev+":100", "--device-write-iops", dev+":200",
			"busybox", "sleep", "1000")
		c.remove(t, name)
		checkLimits(t, c, name, []limit{
			{"memory", "memory", "memory.limit_in_bytes", "memory.max", "67108864", "67108864"},
			{"reservation", "memory", "memory.soft_limit_in_bytes", "memory.low", "33554432", "33554432"},
			{"swap", "memory", "memory.memsw.limit_in_bytes", "memory.swap.max", "104857600", "37748736"},
			{"quota", "cpu", "cpu.cfs_quota_us", "cpu.max", "20000", "20000 50000"},
			{"shares", "cpu", "cpu.shares", "cpu.weight", "512", "59"},
			{"processors", "cpuset", "cpuset.cpus", "cpuset.cpus", "0", "0"},
			{"memory nodes", "cpuset", "cpuset.mems", "cpuset.mems", "0", "0"},
			{"pids", "pids", "pids.max", "pids.max", "33", "33"},
			{"throttle", "blkio", "blkio.throttle.read_bps_device", "io.max", number + " 1048576", number + " rbps=1048576 wbps=2097152 riops=100 wiops=200"},
		})
		c.must(t, "update", "-m", "80m", "--memory-reservation", "40m", "--memory-swap", "-1", "--cpu-quota", "30000", "-c", "1024",
			"--cpuset-cpus", "0-1", "--pids-limit", "-1", name)
		checkLimits(t, c, name, []limit{
			{"memory", "memory", "memory.limit_in_bytes", "memory.max", "83886080", "83886080"},
			{"reservation", "memory", "memory.soft_limit_in_bytes", "memory.low", "41943040", "41943040"},
			{"quota", "cpu", "cpu.cfs_quota_us", "cpu.max", "30000", "30000 50000"},
			{"processors", "cpuset", "cpuset.cpus", "cpuset.cpus", "0-1", "0-1"},
			{"pids", "pids", "pids.max", "pids.max", "max", "max"},
		})
		if unified() {
			checkLimits(t, c, name, []limit{{"swap", "", "", "memory.swap.max", "", "max"}})
		}
		if c.name == "muelle" {
			c.must(t, "update", "--device-write-bps", dev+":3mb", name)
			checkLimits(t, c, name, []limit{
				{"throttle", "blkio", "blkio.throttle.write_bps_device", "io.max", number + " 3145728", number + " rbps=1048576 wbps=3145728 riops=100 wiops=200"},
			})
		}
		if got := c.must(t, "inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.CpuQuota}} {{.HostConfig.CpusetCpus}}", name); got != "83886080 -1 30000 0-1" {
			t.Errorf("inspect tells %q", got)
		}
		for _, tt := range []struct {
			args []string
			want string
		}{
			{[]string{"--cpus", "1"}, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"},
			{[]string{"-m", "1m"}, "Minimum memory limit allowed is 6MB"},
			{[]string{"--cpuset-cpus", "900"}, "Requested CPUs are not available"},
		} {
			if r := c.try(t, append(append([]string{"update"}, tt.args...), name)...); r.code == 0 || !strings.Contains(r.err, tt.want) {
				t.Errorf("update %v: %+v, want %q", tt.args, r, tt.want)
			}
		}
		// What cannot be done is not half done.
		checkLimits(t, c, name, []limit{{"memory", "memory", "memory.limit_in_bytes", "memory.max", "83886080", "83886080"}})
		stats := c.must(t, "stats", "--no-stream", "--format", "{{.MemUsage}}|{{.PIDs}}", name)
		if !strings.HasSuffix(stats, "/ 80MiB|1") {
			t.Errorf("stats %q", stats)
		}
	})
}

//muelle:ring
func TestMemoryLimitBites(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		since := fmt.Sprintf("%.9f", float64(time.Now().UnixNano())/1e9)
		c.remove(t, name)
		// tail keeps the one endless line in memory.
		if r := c.try(t, "run", "--name", name, "-m", "16m", "--memory-swap", "16m", "busybox", "tail", "/dev/zero"); r.code != 137 {
			t.Errorf("%+v", r)
		}
		if got := c.must(t, "inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", name); got != "true 137" {
			t.Errorf("state %q", got)
		}
		until := fmt.Sprintf("%.9f", float64(time.Now().Add(time.Second).UnixNano())/1e9)
		out := c.must(t, "events", "--since", since, "--until", until, "--filter", "container="+name, "--filter", "event=oom", "--filter", "event=die", "--format", "{{.Action}}")
		if out != "oom\ndie" {
			t.Errorf("events %q", out)
		}
	})
}

//muelle:ring
func TestProcessorLimitsBite(t *testing.T) {
	c := ours(world.daemon)
	// A loop that is over its quota is throttled, which the kernel counts.
	got := c.must(t, "run", "--rm", "--cpus", "0.05", "busybox", "sh", "-c",
		"f=/sys/fs/cgroup/cpu.stat; [ -e $f ] || f=/sys/fs/cgroup/cpu/cpu.stat; while ! grep -q 'nr_throttled [1-9]' $f; do :; done; echo throttled")
	if got != "throttled" {
		t.Errorf("%q", got)
	}
	if got := c.must(t, "run", "--rm", "--cpuset-cpus", "1", "busybox", "grep", "Cpus_allowed_list", "/proc/self/status"); got != "Cpus_allowed_list:\t1" {
		t.Errorf("%q", got)
	}
}

//muelle:ring
func TestBlockLimitBites(t *testing.T) {
	dev, _ := disk(t)
	c := ours(world.daemon)
	dir := t.TempDir()
	if strings.HasPrefix(dir, "/tmp") { // in the virtual machine that is no disk
		dir = filepath.Join(world.dir, "throttled")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	c.must(t, "run", "--rm", "-v", dir+":/d", "--device-write-bps", dev+":1mb", "busybox", "dd", "if=/dev/zero", "of=/d/f", "bs=256k", "count=8", "oflag=direct")
	// Two megabytes at one a second: the kernel lets the first go at once.
	if took := time.Since(begun); took < 700*time.Millisecond {
		t.Errorf("two megabytes were written in %v", took)
	}
}

//muelle:ring
func TestDeviceRules(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		for _, tt := range []struct {
			name   string
			args   []string
			script string
			want   string
		}{
			{"not without being asked", nil, "mknod /k c 1 11 && (: >/k) 2>&1", "sh: can't create /k: Operation not permitted"},
			{"by rule", []string{"--device-cgroup-rule", "c 1:11 w"}, "mknod /k c 1 11 && : >/k && echo open", "open"},
			{"by rule for any", []string{"--device-cgroup-rule", "c *:* rw"}, "mknod /k c 1 11 && : >/k && echo open", "open"},
			{"by device", []string{"--device", "/dev/kmsg:/dev/klog:w"}, ": >/dev/klog && echo open; (: </dev/klog) 2>&1", "open\nsh: can't open /dev/klog: Operation not permitted"},
			{"no node of its own", []string{"--device", "/dev/kmsg:/dev/klog:w", "--cap-drop", "MKNOD"}, "mknod /k c 1 3 2>&1", "mknod: /k: Operation not permitted"},
			{"privileged", []string{"--privileged"}, "mknod /k c 1 11 && : >/k && echo open", "open"},
			{"a folder", []string{"--device", "/dev/shm/../net:/dev/nets"}, "echo", ""},
		} {
			if tt.name == "a folder" {
				if _, err := os.Stat("/dev/net/tun"); err != nil {
					continue // this host has no folder of devices
				}
				tt.script, tt.want = "ls /dev/nets", "tun"
			}
			t.Run(tt.name, func(t *testing.T) {
				r := c.try(t, append(append([]string{"run", "--rm"}, tt.args...), "busybox", "sh", "-c", tt.script)...)
				if got := strings.TrimSpace(r.out); got != tt.want {
					t.Errorf("%q, want %q (%+v)", got, tt.want, r)
				}
			})
		}
		for flag, want := range map[string]string{
			"--device=/dev/none":          `error gathering device information while adding custom device "/dev/none": no such file or directory`,
			"--device-cgroup-rule=c 1:11": "invalid device cgroup",
		} {
			if r := c.try(t, "run", "--rm", flag, "busybox", "true"); r.code == 0 || !strings.Contains(r.err, want) {
				t.Errorf("%s: %+v", flag, r)
			}
		}
	})
}

//muelle:ring
func TestPauseFreezes(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "busybox", "sleep", "1000")
		c.remove(t, name)
		c.must(t, "pause", name)
		state := groupFile(t, c, name, "freezer", "freezer.state", "cgroup.events")
		if !strings.Contains(state, "FROZEN") && !strings.Contains(state, "frozen 1") {
			t.Errorf("the group's state is %q", state)
		}
		if got := c.must(t, "inspect", "-f", "{{.State.Status}}", name); got != "paused" {
			t.Errorf("state %q", got)
		}
		if r := c.try(t, "exec", name, "true"); r.code == 0 || !strings.Contains(r.err, "is paused") {
			t.Errorf("exec: %+v", r)
		}
		c.must(t, "unpause", name)
		if got := c.must(t, "exec", name, "echo", "goes on"); got != "goes on" {
			t.Errorf("%q", got)
		}
	})
}

//muelle:ring
func TestCgroupNamespaceAndParent(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		private := c.must(t, "run", "--rm", "--cgroupns", "private", "busybox", "cat", "/proc/self/cgroup")
		for line := range strings.Lines(private) {
			if !strings.HasSuffix(strings.TrimSpace(line), ":/") {
				t.Errorf("in a namespace of its own: %q", line)
			}
		}
		parent := "/muelle-parent-" + strconv.Itoa(os.Getpid())
		t.Cleanup(func() {
			dirs, err := filepath.Glob("/sys/fs/cgroup/*" + parent)
			if err != nil {
				t.Error(err)
			}
			for _, d := range append(dirs, "/sys/fs/cgroup"+parent) {
				// The container's own group goes after the answer that it is removed.
				if err := eventually(30*time.Second, func() error {
					if err := syscall.Rmdir(d); err != syscall.ENOENT {
						return err
					}
					return nil
				}); err != nil {
					t.Errorf("remove %s: %v", d, err)
				}
			}
		})
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "--cgroup-parent", parent, "busybox", "sleep", "1000")
		if dir := groupDir(t, c, name, "memory"); filepath.Base(filepath.Dir(dir)) != filepath.Base(parent) {
			t.Errorf("its group is %s", dir)
		}
		c.must(t, "rm", "-f", name)
	})
}

//muelle:ring
func TestWarningsOfLimits(t *testing.T) {
	c := ours(world.daemon)
	r := c.try(t, "create", "--memory-swappiness", "10", "--oom-kill-disable", "busybox")
	if r.code != 0 {
		t.Fatalf("%+v", r)
	}
	c.remove(t, strings.TrimSpace(r.out))
	want := "OOM killer is disabled for the container, but no memory limit is set"
	if unified() {
		want = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
	}
	if !strings.Contains(r.err, want) {
		t.Errorf("%+v, want %q", r, want)
	}
}

// TestDaemonsDefaultLimits: what --default-ulimit, --default-shm-size and
// --cgroup-parent say holds for containers that say nothing.
func TestDaemonsDefaultLimits(t *testing.T) {
	d := own(t, "--default-ulimit", "nofile=55:66", "--default-shm-size", "8m")
	c := ours(d)
	if got := c.must(t, "run", "--rm", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn; df -k /dev/shm | awk 'NR==2{print $2}'"); got != "55\n66\n8192" {
		t.Errorf("%q", got)
	}
	if got := c.must(t, "run", "--rm", "--ulimit", "nofile=44", "--shm-size", "4m", "busybox", "sh", "-c", "ulimit -Hn; df -k /dev/shm | awk 'NR==2{print $2}'"); got != "44\n4096" {
		t.Errorf("%q", got)
	}
	var info struct{ CgroupDriver, CgroupVersion string }
	if err := json.Unmarshal([]byte(c.must(t, "info", "--format", "{{json .}}")), &info); err != nil || info.CgroupDriver != "cgroupfs" {
		t.Errorf("%+v, %v", info, err)
	}
}

// TestContainerDeviceInterface: a vendor's file says what its device needs.
//
//muelle:ring
func TestContainerDeviceInterface(t *testing.T) {
	dir := t.TempDir()
	spec := `{"cdiVersion": "0.6.0", "kind": "vendor.com/log", "devices": [{"name": "kernel", "containerEdits": {
		"env": ["VENDOR=here"], "deviceNodes": [{"path": "/dev/vendor", "hostPath": "/dev/kmsg", "permissions": "w"}],
		"mounts": [{"hostPath": "` + dir + `", "containerPath": "/vendor", "options": ["ro", "rbind"]}]}}]}`
	touch(t, dir, "library")
	if err := os.WriteFile(filepath.Join(dir, "vendor.json"), []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	d := own(t, "--cdi-spec-dir", dir)
	c := ours(d) // Debian's client is older than CDI names
	r := c.try(t, "run", "--rm", "--device", "vendor.com/log=kernel", "busybox", "sh", "-c",
		"echo $VENDOR; ls /vendor; : >/dev/vendor && echo open; (: </dev/vendor) 2>&1; touch /vendor/x 2>&1; exit 3")
	want := "here\nlibrary\nvendor.json\nopen\nsh: can't open /dev/vendor: Operation not permitted\ntouch: /vendor/x: Read-only file system\n"
	if r.out != want || r.code != 3 {
		t.Errorf("%+v, want %q", r, want)
	}
	if r := c.try(t, "run", "--rm", "--device", "vendor.com/log=other", "busybox", "true"); r.code != 125 && r.code != 1 || !strings.Contains(r.err, "CDI device injection failed: unresolvable CDI devices vendor.com/log=other") {
		t.Errorf("an unknown device: %+v", r)
	}
	if r := c.try(t, "run", "--rm", "--gpus", "all", "busybox", "true"); r.code == 0 || !strings.Contains(r.err, `could not select device driver "" with capabilities: [[gpu]]`) {
		t.Errorf("a GPU: %+v", r)
	}
	if got := c.must(t, "info", "--format", "{{json .DiscoveredDevices}} {{json .CDISpecDirs}}"); got != `[{"Source":"cdi","ID":"vendor.com/log=kernel"}] ["`+dir+`"]` {
		t.Errorf("info %s", got)
	}
}
