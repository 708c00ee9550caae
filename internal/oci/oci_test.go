package oci_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/linux/userns"
	"muelle/internal/oci"
)

func options(change func(*oci.Options)) oci.Options {
	o := oci.Options{
		ID: "abc", Hostname: "box", CgroupsPath: "/muelle/abc", CgroupVersion: 1,
		Config:     &container.Config{Cmd: []string{"sh"}, Env: []string{"A=1"}},
		HostConfig: &container.HostConfig{NetworkMode: "bridge"},
		Home:       "/root",
	}
	if change != nil {
		change(&o)
	}
	return o
}

func build(t *testing.T, change func(*oci.Options)) *specs.Spec {
	t.Helper()
	s, err := oci.Spec(options(change))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDefaultsAreConfined(t *testing.T) {
	s := build(t, nil)
	if s.Linux.Seccomp == nil || len(s.Linux.MaskedPaths) == 0 || len(s.Linux.ReadonlyPaths) == 0 {
		t.Error("no seccomp filter, masked or read-only paths")
	}
	caps := s.Process.Capabilities
	if len(caps.Bounding) != 14 || len(caps.Inheritable) != 0 || len(caps.Ambient) != 0 {
		t.Errorf("capabilities %+v", caps)
	}
	for _, ns := range []specs.LinuxNamespaceType{specs.MountNamespace, specs.NetworkNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace} {
		if !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == ns && n.Path == "" }) {
			t.Errorf("no new %s namespace", ns)
		}
	}
	if first := s.Linux.Resources.Devices[0]; first.Allow || first.Access != "rwm" {
		t.Errorf("the first device rule is %+v, want one that denies everything", first)
	}
}

func TestEnvironment(t *testing.T) {
	const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, tt := range []struct {
		name string
		in   []string
		tty  bool
		want []string
	}{
		{"plain", []string{"A=1"}, false, []string{path, "HOSTNAME=box", "A=1", "HOME=/root"}},
		{"terminal", nil, true, []string{path, "HOSTNAME=box", "TERM=xterm", "HOME=/root"}},
		{"replaced in place", []string{"PATH=/bin", "HOME=/x", "HOSTNAME=y"}, false, []string{"PATH=/bin", "HOSTNAME=y", "HOME=/x"}},
		{"removed", []string{"HOSTNAME"}, false, []string{path, "HOME=/root"}},
		{"prefix is not the name", []string{"PAT=1"}, false, []string{path, "HOSTNAME=box", "PAT=1", "HOME=/root"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := build(t, func(o *oci.Options) { o.Config.Env, o.Config.Tty = tt.in, tt.tty })
			if diff := cmp.Diff(tt.want, s.Process.Env); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	for _, tt := range []struct {
		name      string
		add, drop []string
		has, not  []string
		n         int
		bad       bool
	}{
		{name: "default", has: []string{"CAP_CHOWN"}, not: []string{"CAP_SYS_ADMIN"}, n: 14},
		{name: "add", add: []string{"sys_admin"}, has: []string{"CAP_SYS_ADMIN", "CAP_CHOWN"}, n: 15},
		{name: "drop", drop: []string{"CAP_CHOWN"}, not: []string{"CAP_CHOWN"}, n: 13},
		{name: "drop all, add one", drop: []string{"ALL"}, add: []string{"NET_RAW"}, has: []string{"CAP_NET_RAW"}, n: 1},
		{name: "add all, drop one", add: []string{"all"}, drop: []string{"NET_RAW"}, has: []string{"CAP_CHOWN"}, not: []string{"CAP_NET_RAW"}},
		{name: "unknown", add: []string{"FLY"}, bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := oci.Spec(options(func(o *oci.Options) { o.HostConfig.CapAdd, o.HostConfig.CapDrop = tt.add, tt.drop }))
			if errdefs.IsInvalidArgument(err) != tt.bad {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				return
			}
			got := s.Process.Capabilities.Bounding
			for _, c := range tt.has {
				if !slices.Contains(got, c) {
					t.Errorf("%s is missing", c)
				}
			}
			for _, c := range tt.not {
				if slices.Contains(got, c) {
					t.Errorf("%s is there", c)
				}
			}
			if tt.n > 0 && len(got) != tt.n {
				t.Errorf("%d capabilities, want %d", len(got), tt.n)
			}
		})
	}
}

// TestUnprivilegedUserHasNothingEffective also is the test for CVE-2022-29162: no
// inheritable capabilities, for anybody.
func TestUnprivilegedUserHasNothingEffective(t *testing.T) {
	s := build(t, func(o *oci.Options) { o.User = specs.User{UID: 1000}; o.HostConfig.Privileged = true })
	c := s.Process.Capabilities
	if len(c.Effective)+len(c.Permitted)+len(c.Inheritable)+len(c.Ambient) != 0 || len(c.Bounding) == 0 {
		t.Errorf("capabilities %+v", c)
	}
}

func TestPrivileged(t *testing.T) {
	s := build(t, func(o *oci.Options) { o.HostConfig.Privileged = true })
	if s.Linux.Seccomp != nil || s.Linux.MaskedPaths != nil || s.Linux.ReadonlyPaths != nil {
		t.Error("a privileged container is confined")
	}
	for _, m := range s.Mounts {
		if m.Destination == "/sys" && slices.Contains(m.Options, "ro") {
			t.Error("/sys is read-only")
		}
	}
}

func TestMountsParentsFirstAndUsersWin(t *testing.T) {
	s := build(t, func(o *oci.Options) {
		o.Mounts = []specs.Mount{
			{Destination: "/data/inner/deep", Type: "bind", Source: "/b"},
			{Destination: "/data", Type: "bind", Source: "/a"},
			{Destination: "/dev/shm/", Type: "bind", Source: "/shm"},
		}
		o.HostConfig.Tmpfs = map[string]string{"/run": "size=1m,exec"}
	})
	index := map[string]int{}
	for i, m := range s.Mounts {
		if _, twice := index[m.Destination]; twice {
			t.Errorf("%s twice", m.Destination)
		}
		index[m.Destination] = i
	}
	if index["/data"] > index["/data/inner/deep"] || index["/dev"] > index["/dev/shm"] {
		t.Errorf("a child stands before its parent: %v", index)
	}
	if m := s.Mounts[index["/dev/shm"]]; m.Source != "/shm" {
		t.Errorf("/dev/shm is %+v", m)
	}
	run := s.Mounts[index["/run"]]
	if diff := cmp.Diff([]string{"nosuid", "nodev", "size=1m", "exec"}, run.Options); diff != "" {
		t.Error(diff)
	}
}

func TestNamespaceModes(t *testing.T) {
	s := build(t, func(o *oci.Options) {
		o.HostConfig.NetworkMode, o.HostConfig.PidMode, o.HostConfig.IpcMode, o.HostConfig.UTSMode = "host", "host", "host", "host"
	})
	if len(s.Linux.Namespaces) != 1 || s.Hostname != "" || s.Linux.Sysctl != nil {
		t.Errorf("namespaces %v, hostname %q, sysctls %v", s.Linux.Namespaces, s.Hostname, s.Linux.Sysctl)
	}
	s = build(t, func(o *oci.Options) { o.PIDNamespace = "/proc/7/ns/pid"; o.CgroupVersion = 2 })
	for _, ns := range s.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace && ns.Path != "/proc/7/ns/pid" {
			t.Errorf("pid namespace %+v", ns)
		}
	}
	if !slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.CgroupNamespace }) {
		t.Error("no cgroup namespace on v2")
	}
}

func TestResources(t *testing.T) {
	pids := int64(50)
	s := build(t, func(o *oci.Options) {
		o.HostConfig.Resources = container.Resources{Memory: 1 << 20, NanoCPUs: 1.5e9, PidsLimit: &pids, CPUShares: 5}
	})
	r := s.Linux.Resources
	if *r.Memory.Limit != 1<<20 || *r.Memory.Swap != 2<<20 || *r.CPU.Quota != 150_000 || *r.CPU.Period != 100_000 || *r.CPU.Shares != 5 || *r.Pids.Limit != 50 {
		t.Errorf("resources %+v %+v %+v", r.Memory, r.CPU, r.Pids)
	}
	if r := build(t, nil).Linux.Resources; r.Memory != nil || r.CPU != nil || r.Pids != nil || r.BlockIO != nil {
		t.Errorf("limits without being asked: %+v", r)
	}
}

func TestSecurityOpt(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want oci.Security
		bad  bool
	}{
		{in: "no-new-privileges", want: oci.Security{NoNewPrivileges: true}},
		{in: "no-new-privileges:true", want: oci.Security{NoNewPrivileges: true}},
		{in: "no-new-privileges=false"},
		{in: "seccomp=unconfined", want: oci.Security{SeccompProfile: "unconfined"}},
		{in: "seccomp:unconfined", want: oci.Security{SeccompProfile: "unconfined"}},
		{in: "systempaths=unconfined", want: oci.Security{SystemPathsUnconfined: true}},
		{in: "label=disable"},
		{in: "bogus=1", bad: true},
		{in: "no-new-privileges=perhaps", bad: true},
	} {
		got, err := oci.ParseSecurityOpt([]string{tt.in}, oci.Modules{})
		if (err != nil) != tt.bad {
			t.Errorf("%s: error %v", tt.in, err)
		} else if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
			t.Errorf("%s: %s", tt.in, diff)
		}
	}
}

func TestSecurityModules(t *testing.T) {
	both := oci.Modules{AppArmor: true, SELinux: true}
	for _, tt := range []struct {
		name       string
		options    []string
		privileged bool
		have       oci.Modules
		daemon     string
		want       string // the profile
		bad        bool
	}{
		{name: "none asked, none there"},
		{name: "the daemon's, none there", daemon: "mine"},
		{name: "the daemon's", daemon: "mine", have: both, want: "mine"},
		{name: "the daemon has none", daemon: "unconfined", have: both, want: "unconfined"},
		{name: "own before the daemon's", daemon: "mine", options: []string{"apparmor=docker-default"}, have: both, want: "docker-default"},
		{name: "privileged before the daemon's", daemon: "mine", privileged: true, have: both, want: "unconfined"},
		{name: "none asked", have: both, want: "docker-default"},
		{name: "own", options: []string{"apparmor=mine"}, have: both, want: "mine"},
		{name: "own of old", options: []string{"apparmor:mine"}, have: both, want: "mine"},
		{name: "unconfined", options: []string{"apparmor=unconfined"}, have: both, want: "unconfined"},
		{name: "unconfined, none there", options: []string{"apparmor=unconfined"}},
		{name: "own, none there", options: []string{"apparmor=mine"}, bad: true},
		{name: "privileged", privileged: true, have: both, want: "unconfined"},
		{name: "privileged with its own", privileged: true, options: []string{"apparmor=mine"}, have: both, want: "mine"},
	} {
		s, err := oci.Spec(options(func(o *oci.Options) {
			o.HostConfig.SecurityOpt, o.HostConfig.Privileged, o.Modules = tt.options, tt.privileged, tt.have
			o.HostConfig.Privileged, o.AppArmor = tt.privileged, tt.daemon
		}))
		if (err != nil) != tt.bad || err == nil && s.Process.ApparmorProfile != tt.want {
			t.Errorf("%s: %v, %+v", tt.name, err, s)
		}
	}
	got, err := oci.ParseSecurityOpt([]string{"label=type:x", "label:level:s0:c1", "disable"}, both)
	if diff := cmp.Diff([]string{"type:x", "level:s0:c1", "disable"}, got.Labels); err != nil || diff != "" {
		t.Errorf("labels: %v %s", err, diff)
	}
	// As Docker: where SELinux is off, labels mean nothing.
	if got, err := oci.ParseSecurityOpt([]string{"label=type:x"}, oci.Modules{}); err != nil || got.Labels != nil {
		t.Errorf("labels without SELinux: %v %v", got, err)
	}
}

func TestSecurityDefaults(t *testing.T) {
	for _, tt := range []struct {
		options []string
		want    bool
	}{{nil, true}, {[]string{"no-new-privileges=false"}, false}, {[]string{"seccomp=unconfined"}, true}} {
		s := build(t, func(o *oci.Options) { o.NoNewPrivileges, o.HostConfig.SecurityOpt = true, tt.options })
		if s.Process.NoNewPrivileges != tt.want {
			t.Errorf("%v: %t", tt.options, s.Process.NoNewPrivileges)
		}
	}
}

func TestWritableCgroups(t *testing.T) {
	for _, tt := range []struct {
		option     string
		version    int
		privileged bool
		host       bool
		want       string
	}{
		{option: "writable-cgroups", version: 2, want: "rw"}, {option: "writable-cgroups=false", version: 2, want: "ro"},
		{option: "writable-cgroups=true", version: 1}, {option: "writable-cgroups=true", version: 2, host: true},
		{option: "writable-cgroups=perhaps", version: 2}, {option: "writable-cgroups=false", version: 1, privileged: true, want: "ro"},
		{option: "writable-cgroups", version: 1, privileged: true, want: "rw"},
	} {
		s, err := oci.Spec(options(func(o *oci.Options) {
			o.HostConfig.SecurityOpt, o.CgroupVersion, o.HostConfig.Privileged = []string{tt.option}, tt.version, tt.privileged
			if tt.host {
				o.HostConfig.CgroupnsMode = container.CgroupnsModeHost
			}
		}))
		if tt.want == "" {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%+v: %v", tt, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		for _, m := range s.Mounts {
			if m.Type == "cgroup" && slices.Contains(m.Options, "ro") != (tt.want == "ro") {
				t.Errorf("%+v: options %v", tt, m.Options)
			}
		}
	}
}

func TestUserNamespace(t *testing.T) {
	m := &userns.Map{UIDs: []userns.Range{{Host: 100000, Size: 1000}}, GIDs: []userns.Range{{Host: 200000, Size: 500}}}
	s := build(t, func(o *oci.Options) { o.IDs = m })
	if s.Linux.Namespaces[0].Type != specs.UserNamespace {
		t.Errorf("namespaces %v", s.Linux.Namespaces)
	}
	want := []specs.LinuxIDMapping{{HostID: 200000, Size: 500}}
	if diff := cmp.Diff(want, s.Linux.GIDMappings); diff != "" {
		t.Error(diff)
	}
	if got := s.Linux.Sysctl["net.ipv4.ping_group_range"]; got != "0 499" {
		t.Errorf("groups that may ping: %s", got)
	}
	// Linux 5.10 takes no greater one.
	s = build(t, func(o *oci.Options) { o.IDs = userns.Same() })
	if got := s.Linux.Sysctl["net.ipv4.ping_group_range"]; got != "0 2147483647" {
		t.Errorf("groups that may ping: %s", got)
	}
}

func TestDeviceRules(t *testing.T) {
	s := build(t, func(o *oci.Options) {
		o.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/nix", CgroupPermissions: "r"}}
		o.HostConfig.DeviceCgroupRules = []string{"c 10:* rw"}
	})
	if len(s.Linux.Devices) != 1 || s.Linux.Devices[0].Path != "/dev/nix" || s.Linux.Devices[0].Major != 1 {
		t.Errorf("devices %+v", s.Linux.Devices)
	}
	rules := s.Linux.Resources.Devices
	last := rules[len(rules)-1]
	if *last.Major != 10 || last.Minor != nil || last.Access != "rw" {
		t.Errorf("last rule %+v", last)
	}
	for name, change := range map[string]func(*oci.Options){
		"absent device": func(o *oci.Options) { o.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/absent"}} },
		"bad rule":      func(o *oci.Options) { o.HostConfig.DeviceCgroupRules = []string{"x"} },
	} {
		if _, err := oci.Spec(options(change)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestResolveUser(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/var/www:/bin/sh\n"
	const group = "root:x:0:\nwebs:x:44:\nextra:x:50:web\nadd:x:60:\n"
	for _, tt := range []struct {
		in   string
		add  []string
		want specs.User
		home string
		bad  bool
	}{
		{in: "", want: specs.User{AdditionalGids: []uint32{0}}, home: "/root"},
		{in: "web", want: specs.User{UID: 33, GID: 44, AdditionalGids: []uint32{44, 50}}, home: "/var/www"},
		{in: "33:0", want: specs.User{UID: 33, GID: 0, AdditionalGids: []uint32{0}}, home: "/var/www"},
		{in: "1234", want: specs.User{UID: 1234, AdditionalGids: []uint32{0}}, home: "/"},
		{in: "web", add: []string{"add", "77"}, want: specs.User{UID: 33, GID: 44, AdditionalGids: []uint32{44, 50, 60, 77}}, home: "/var/www"},
		{in: "nobody-here", bad: true},
	} {
		got, home, err := oci.ResolveUser(tt.in, tt.add, strings.NewReader(passwd), strings.NewReader(group))
		if errdefs.IsInvalidArgument(err) != tt.bad {
			t.Errorf("%q: error %v", tt.in, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); !tt.bad && (diff != "" || home != tt.home) {
			t.Errorf("%q: home %q %s", tt.in, home, diff)
		}
	}
	if u, _, err := oci.ResolveUser("5:6", nil, nil, nil); err != nil || u.UID != 5 || u.GID != 6 {
		t.Errorf("without files: %+v, %v", u, err)
	}
}

func TestExecProcess(t *testing.T) {
	s := build(t, nil)
	p, err := oci.ExecProcess(s, oci.ExecOptions{Args: []string{"ls"}, Env: []string{"A=2"}, WorkingDir: "/tmp", Tty: true, User: &specs.User{UID: 5}, Home: "/home/five"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Cwd != "/tmp" || len(p.Capabilities.Effective) != 0 || !slices.Contains(p.Env, "A=2") || !slices.Contains(p.Env, "HOME=/home/five") || !slices.Contains(p.Env, "TERM=xterm") || slices.Contains(p.Env, "HOME=/root") {
		t.Errorf("process %+v", p)
	}
	if slices.Contains(s.Process.Env, "A=2") || s.Process.Cwd != "/" {
		t.Error("the container's own process was changed")
	}
	if _, err := oci.ExecProcess(s, oci.ExecOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no command: %v", err)
	}
}

func TestSeccompProfile(t *testing.T) {
	s := build(t, func(o *oci.Options) {
		o.HostConfig.SecurityOpt = []string{`seccomp={"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`}
	})
	if s.Linux.Seccomp == nil || len(s.Linux.Seccomp.Syscalls) != 1 {
		t.Errorf("filter %+v", s.Linux.Seccomp)
	}
	_, err := oci.Spec(options(func(o *oci.Options) { o.HostConfig.SecurityOpt = []string{"seccomp={"} }))
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("broken profile: %v", err)
	}
}

func BenchmarkSpec(b *testing.B) {
	o := options(nil)
	for b.Loop() {
		if _, err := oci.Spec(o); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRootPropagation(t *testing.T) {
	for propagation, want := range map[string]string{"rprivate": "private", "rslave": "private", "shared": "shared", "rshared": "shared"} {
		s := build(t, func(o *oci.Options) {
			o.Mounts = []specs.Mount{{Destination: "/m", Type: "bind", Source: "/x", Options: []string{"rbind", propagation}}}
		})
		if got := s.Linux.RootfsPropagation; got != want {
			t.Errorf("%s: got %s, want %s", propagation, got, want)
		}
	}
}

// Who may change the network and has nothing that needs the host's user namespace.
func TestOnlyOverNetwork(t *testing.T) {
	for _, tt := range []struct {
		add, drop  []string
		privileged bool
		want       bool
	}{
		{},
		{add: []string{"NET_RAW"}},
		{add: []string{"net_admin"}, want: true},
		{add: []string{"CAP_NET_ADMIN", "NET_RAW", "NET_BROADCAST", "SYS_PTRACE"}, want: true},
		{add: []string{"NET_ADMIN"}, drop: []string{"ALL"}, want: true},
		{add: []string{"NET_ADMIN"}, drop: []string{"NET_ADMIN"}},
		{add: []string{"NET_ADMIN", "SYS_ADMIN"}},
		{add: []string{"NET_ADMIN", "IPC_LOCK"}},
		{add: []string{"ALL"}},
		{add: []string{"NET_ADMIN", "NONSENSE"}},
		{add: []string{"NET_ADMIN"}, privileged: true},
	} {
		h := &container.HostConfig{CapAdd: tt.add, CapDrop: tt.drop, Privileged: tt.privileged}
		if got := oci.OnlyOverNetwork(h); got != tt.want {
			t.Errorf("%v without %v, privileged %t: %t", tt.add, tt.drop, tt.privileged, got)
		}
	}
}

func TestReplaceEnv(t *testing.T) {
	for _, tt := range []struct{ base, over, want string }{
		{"A=1 B=2", "B=3 C=4", "A=1 B=3 C=4"},
		{"A=1 B=2 C=3", "B A=9", "A=9 C=3"},
		{"A=1 B=2", "A A=3", "B=2 A=3"},
		{"A=1 A=2", "A=3", "A=3 A=2"},
		{"A=1", "Z", "A=1"},
		{"AB=1", "A=2", "AB=1 A=2"},
	} {
		if got := strings.Join(oci.ReplaceEnv(strings.Fields(tt.base), strings.Fields(tt.over)), " "); got != tt.want {
			t.Errorf("%s with %s: %s, want %s", tt.base, tt.over, got, tt.want)
		}
	}
	// As many as a stranger may send: each is not compared with all the others.
	var base, over []string
	for i := range 400_000 {
		base, over = append(base, fmt.Sprintf("A%d=1", i)), append(over, fmt.Sprintf("B%d=1", i))
	}
	if got := len(oci.ReplaceEnv(base, over)); got != 800_000 {
		t.Errorf("%d variables", got)
	}
}
