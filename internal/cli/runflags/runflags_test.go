package runflags_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/pflag"

	"muelle/internal/cli/runflags"
)

func parse(t *testing.T, line string) (*runflags.Spec, error) {
	t.Helper()
	f := pflag.NewFlagSet("run", pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.BoolP("help", "", false, "")
	o := runflags.Register(f)
	if err := f.Parse(words(line)); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		o.Image = f.Arg(0)
	}
	if f.NArg() > 1 {
		o.Args = f.Args()[1:]
	}
	return o.Parse()
}

// words splits a line at blanks outside of single quotes.
func words(s string) []string {
	var out []string
	var cur strings.Builder
	quoted, open := false, false
	for _, c := range s {
		switch {
		case c == '\'':
			quoted, open = !quoted, true
		case c == ' ' && !quoted:
			if open || cur.Len() > 0 {
				out = append(out, cur.String())
			}
			cur.Reset()
			open = false
		default:
			cur.WriteRune(c)
		}
	}
	if open || cur.Len() > 0 {
		out = append(out, cur.String())
	}
	return out
}

func ptr[T any](v T) *T { return &v }

// defaults is what no flag at all means.
func defaults() *runflags.Spec {
	return &runflags.Spec{
		Config: &container.Config{AttachStdout: true, AttachStderr: true, Image: "img", ExposedPorts: network.PortSet{}, Labels: map[string]string{}, Volumes: map[string]struct{}{}},
		HostConfig: &container.HostConfig{
			NetworkMode: "default", RestartPolicy: container.RestartPolicy{Name: "no"}, PortBindings: network.PortMap{},
			DNS: []netip.Addr{}, DNSOptions: []string{}, DNSSearch: []string{}, Tmpfs: map[string]string{}, Sysctls: map[string]string{},
			StorageOpt: map[string]string{}, Annotations: map[string]string{}, LogConfig: container.LogConfig{Config: map[string]string{}},
			Resources: container.Resources{MemorySwappiness: ptr[int64](-1), OomKillDisable: ptr(false), PidsLimit: ptr[int64](0), Ulimits: []*container.Ulimit{},
				Devices: []container.DeviceMapping{}, BlkioDeviceReadBps: []*blkiodev.ThrottleDevice{}, BlkioDeviceWriteBps: []*blkiodev.ThrottleDevice{},
				BlkioDeviceReadIOps: []*blkiodev.ThrottleDevice{}, BlkioDeviceWriteIOps: []*blkiodev.ThrottleDevice{}},
		},
		Networking: &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{"default": {}}},
	}
}

func port(s string) network.Port { return network.MustParsePort(s) }

func bind(ip, p string) network.PortBinding {
	b := network.PortBinding{HostPort: p}
	if ip != "" {
		b.HostIP = netip.MustParseAddr(ip)
	}
	return b
}

func TestParse(t *testing.T) {
	t.Setenv("FROM_OUTSIDE", "outer")
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	type spec = runflags.Spec
	user := func(s *spec, name string, e *network.EndpointSettings) {
		s.HostConfig.NetworkMode = container.NetworkMode(name)
		s.Networking.EndpointsConfig = map[string]*network.EndpointSettings{}
		if e != nil {
			s.Networking.EndpointsConfig[name] = e
		}
	}
	for _, tc := range []struct {
		name, in string
		want     func(s *spec)
	}{
		{"image alone", "img", func(*spec) {}},
		{"command", "img sh -c 'echo hi'", func(s *spec) { s.Config.Cmd = []string{"sh", "-c", "echo hi"} }},
		{"stdin", "-i img", func(s *spec) { s.Config.AttachStdin, s.Config.OpenStdin, s.Config.StdinOnce = true, true, true }},
		{"tty", "-t img", func(s *spec) { s.Config.Tty = true }},
		{"attach", "-a STDERR img", func(s *spec) { s.Config.AttachStdout = false }},
		{"attach stdin only", "-a stdin img", func(s *spec) {
			s.Config.AttachStdin, s.Config.AttachStdout, s.Config.AttachStderr = true, false, false
		}},
		{"environment", "-e A=1 -e FROM_OUTSIDE -e NOT_SET_ANYWHERE -e E= img", func(s *spec) {
			s.Config.Env = []string{"A=1", "FROM_OUTSIDE=outer", "NOT_SET_ANYWHERE", "E="}
		}},
		{"labels", "-l a=b --label c img", func(s *spec) { s.Config.Labels = map[string]string{"a": "b", "c": ""} }},
		{"hostname", "-h web --domainname example.org img", func(s *spec) { s.Config.Hostname, s.Config.Domainname = "web", "example.org" }},
		{"user and folder", "-u 1:2 -w /srv img", func(s *spec) { s.Config.User, s.Config.WorkingDir = "1:2", "/srv" }},
		{"entrypoint", "--entrypoint sh img -c true", func(s *spec) {
			s.Config.Entrypoint, s.Config.Cmd = []string{"sh"}, []string{"-c", "true"}
		}},
		{"no entrypoint", "--entrypoint= img", func(s *spec) { s.Config.Entrypoint = []string{""} }},
		{"stop", "--stop-signal USR1 --stop-timeout 0 img", func(s *spec) { s.Config.StopSignal, s.Config.StopTimeout = "USR1", ptr(0) }},
		{"health", "--health-cmd 'curl x' --health-interval 5s --health-timeout 2s --health-retries 3 --health-start-period 1m --health-start-interval 1s img", func(s *spec) {
			s.Config.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "curl x"}, Interval: 5 * time.Second, Timeout: 2 * time.Second, Retries: 3, StartPeriod: time.Minute, StartInterval: time.Second}
		}},
		{"health times alone", "--health-interval 5s img", func(s *spec) { s.Config.Healthcheck = &container.HealthConfig{Interval: 5 * time.Second} }},
		{"no health", "--no-healthcheck img", func(s *spec) { s.Config.Healthcheck = &container.HealthConfig{Test: []string{"NONE"}} }},

		{"port", "-p 80 img", func(s *spec) { publish(s, "80/tcp", bind("", "")) }},
		{"port on host", "-p 8080:80 img", func(s *spec) { publish(s, "80/tcp", bind("", "8080")) }},
		{"port udp", "-p 53:53/UDP img", func(s *spec) { publish(s, "53/udp", bind("", "53")) }},
		{"port ip", "-p 127.0.0.1:8080:80 img", func(s *spec) { publish(s, "80/tcp", bind("127.0.0.1", "8080")) }},
		{"port ip, any", "-p 127.0.0.1::80 img", func(s *spec) { publish(s, "80/tcp", bind("127.0.0.1", "")) }},
		{"port v6", "-p [::1]:8080:80 img", func(s *spec) { publish(s, "80/tcp", bind("::1", "8080")) }},
		{"port v6 bare", "-p 2001:db8::1:8080:80 img", func(s *spec) { publish(s, "80/tcp", bind("2001:db8::1", "8080")) }},
		{"port ranges", "-p 8000-8001:80-81 img", func(s *spec) {
			publish(s, "80/tcp", bind("", "8000"))
			publish(s, "81/tcp", bind("", "8001"))
		}},
		{"port from a range", "-p 8000-8010:80 img", func(s *spec) { publish(s, "80/tcp", bind("", "8000-8010")) }},
		{"port twice", "-p 80:80 -p 81:80 img", func(s *spec) { publish(s, "80/tcp", bind("", "80"), bind("", "81")) }},
		{"port long", "-p published=8080,target=80,protocol=udp img", func(s *spec) { publish(s, "80/udp", bind("", "8080")) }},
		{"expose", "--expose 90 --expose 91-92/udp -P img", func(s *spec) {
			s.HostConfig.PublishAllPorts = true
			s.Config.ExposedPorts = network.PortSet{port("90/tcp"): {}, port("91/udp"): {}, port("92/udp"): {}}
		}},
		{"the last ports", "--expose 65534-65535 img", func(s *spec) {
			s.Config.ExposedPorts = network.PortSet{port("65534/tcp"): {}, port("65535/tcp"): {}}
		}},

		{"bind", "-v /a:/b img", func(s *spec) { s.HostConfig.Binds = []string{"/a:/b"} }},
		{"bind, relative", "-v ./x:/b:ro img", func(s *spec) { s.HostConfig.Binds = []string{filepath.Join(cwd, "x") + ":/b:ro"} }},
		{"volume", "-v data:/data:nocopy -v /anon img", func(s *spec) {
			s.HostConfig.Binds = []string{"data:/data:nocopy"}
			s.Config.Volumes = map[string]struct{}{"/anon": {}}
		}},
		{"volume twice", "-v data:/data -v data:/data img", func(s *spec) { s.HostConfig.Binds = []string{"data:/data"} }},
		{"volumes from", "--volumes-from a:ro --volume-driver local img", func(s *spec) {
			s.HostConfig.VolumesFrom, s.HostConfig.VolumeDriver = []string{"a:ro"}, "local"
		}},
		{"tmpfs", "--tmpfs /t:size=1m,mode=755 --tmpfs /u img", func(s *spec) {
			s.HostConfig.Tmpfs = map[string]string{"/t": "size=1m,mode=755", "/u": ""}
		}},

		{"network", "--network n1 img", func(s *spec) { user(s, "n1", nil) }},
		{"network host", "--net host img", func(s *spec) { user(s, "host", nil) }},
		{"network of a container", "--network container:c img", func(s *spec) { user(s, "container:c", nil) }},
		{"network with alias", "--network n1 --network-alias a --net-alias b img", func(s *spec) {
			user(s, "n1", &network.EndpointSettings{Aliases: []string{"a", "b"}})
		}},
		{"network with addresses", "--network n1 --ip 10.0.0.9 --ip6 2001:db8::9 --link-local-ip 169.254.1.1 --mac-address 02:42:ac:11:00:02 img", func(s *spec) {
			mac, _ := net.ParseMAC("02:42:ac:11:00:02")
			user(s, "n1", &network.EndpointSettings{MacAddress: network.HardwareAddr(mac), IPAMConfig: &network.EndpointIPAMConfig{
				IPv4Address: netip.MustParseAddr("10.0.0.9"), IPv6Address: netip.MustParseAddr("2001:db8::9"), LinkLocalIPs: []netip.Addr{netip.MustParseAddr("169.254.1.1")}}})
		}},
		{"network, long", "--network name=n1,alias=a,alias=b,ip=10.0.0.9,driver-opt=k=v,gw-priority=7 img", func(s *spec) {
			user(s, "n1", &network.EndpointSettings{Aliases: []string{"a", "b"}, DriverOpts: map[string]string{"k": "v"}, GwPriority: 7,
				IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("10.0.0.9")}})
		}},
		{"two networks", "--network n1 --network name=n2,alias=b --network-alias a img", func(s *spec) {
			s.HostConfig.NetworkMode = "n1"
			s.Networking.EndpointsConfig = map[string]*network.EndpointSettings{"n1": {Aliases: []string{"a"}}, "n2": {Aliases: []string{"b"}}}
		}},
		{"link on a network", "--network n1 --link c:alias img", func(s *spec) {
			s.HostConfig.Links = []string{"c:alias"}
			user(s, "n1", &network.EndpointSettings{Links: []string{"c:alias"}})
		}},
		{"link on the bridge", "--link c img", func(s *spec) { s.HostConfig.Links = []string{"c"} }},
		{"dns", "--dns 1.1.1.1 --dns ::1 --dns-search example.org. --dns-search . --dns-option ndots:1 --dns-opt rotate img", func(s *spec) {
			s.HostConfig.DNS = []netip.Addr{netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("::1")}
			s.HostConfig.DNSSearch, s.HostConfig.DNSOptions = []string{"example.org", "."}, []string{"ndots:1", "rotate"}
		}},
		{"hosts", "--add-host a:1.2.3.4 --add-host b=[::1] --add-host c:host-gateway --add-host d:::1 img", func(s *spec) {
			s.HostConfig.ExtraHosts = []string{"a:1.2.3.4", "b:::1", "c:host-gateway", "d:::1"}
		}},

		{"memory", "-m 64m --memory-reservation 32M --memory-swap -1 --memory-swappiness 10 --oom-kill-disable --oom-score-adj -5 img", func(s *spec) {
			r := &s.HostConfig.Resources
			r.Memory, r.MemoryReservation, r.MemorySwap, r.MemorySwappiness, r.OomKillDisable = 64<<20, 32<<20, -1, ptr[int64](10), ptr(true)
			s.HostConfig.OomScoreAdj = -5
		}},
		{"cpu", "--cpus 1.5 -c 512 --cpuset-cpus 0,1 --cpuset-mems 0 --cpu-period 100000 --cpu-quota 50000 --cpu-rt-period 1 --cpu-rt-runtime 2 img", func(s *spec) {
			r := &s.HostConfig.Resources
			r.NanoCPUs, r.CPUShares, r.CpusetCpus, r.CpusetMems, r.CPUPeriod, r.CPUQuota = 1_500_000_000, 512, "0,1", "0", 100000, 50000
			r.CPURealtimePeriod, r.CPURealtimeRuntime = 1, 2
		}},
		{"pids", "--pids-limit 100 img", func(s *spec) { s.HostConfig.PidsLimit = ptr[int64](100) }},
		{"ulimits", "--ulimit nofile=10:20 --ulimit core=-1 --ulimit nofile=30 img", func(s *spec) {
			s.HostConfig.Ulimits = []*container.Ulimit{{Name: "core", Soft: -1, Hard: -1}, {Name: "nofile", Soft: 30, Hard: 30}}
		}},
		{"block io", "--blkio-weight 300 --blkio-weight-device /dev/sda:200 --device-read-bps /dev/sda:1mb --device-write-bps /dev/sdb:2k --device-read-iops /dev/sda:10 --device-write-iops /dev/sda:20 img", func(s *spec) {
			r := &s.HostConfig.Resources
			r.BlkioWeight, r.BlkioWeightDevice = 300, []*blkiodev.WeightDevice{{Path: "/dev/sda", Weight: 200}}
			r.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 1 << 20}}
			r.BlkioDeviceWriteBps = []*blkiodev.ThrottleDevice{{Path: "/dev/sdb", Rate: 2048}}
			r.BlkioDeviceReadIOps = []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 10}}
			r.BlkioDeviceWriteIOps = []*blkiodev.ThrottleDevice{{Path: "/dev/sda", Rate: 20}}
		}},
		{"devices", "--device /dev/a --device /dev/b:r --device /dev/c:/dev/d --device /dev/e:/dev/f:rw --device vendor.com/class=name --device-cgroup-rule 'c 1:* rwm' img", func(s *spec) {
			dev := func(host, inside, mode string) container.DeviceMapping {
				return container.DeviceMapping{PathOnHost: host, PathInContainer: inside, CgroupPermissions: mode}
			}
			s.HostConfig.Devices = []container.DeviceMapping{dev("/dev/a", "/dev/a", "rwm"), dev("/dev/b", "/dev/b", "r"), dev("/dev/c", "/dev/d", "rwm"), dev("/dev/e", "/dev/f", "rw")}
			s.HostConfig.DeviceRequests = []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"vendor.com/class=name"}}}
			s.HostConfig.DeviceCgroupRules = []string{"c 1:* rwm"}
		}},
		{"gpus", "--gpus all img", func(s *spec) {
			s.HostConfig.DeviceRequests = []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}, Options: map[string]string{}}}
		}},
		{"shared memory", "--shm-size 1g img", func(s *spec) { s.HostConfig.ShmSize = 1 << 30 }},

		{"capabilities", "--cap-add net_admin --cap-add CAP_CHOWN --cap-add NET_ADMIN --cap-drop all --privileged img", func(s *spec) {
			s.HostConfig.CapAdd, s.HostConfig.CapDrop, s.HostConfig.Privileged = []string{"CAP_CHOWN", "CAP_NET_ADMIN"}, []string{"ALL"}, true
		}},
		{"security", "--security-opt no-new-privileges --security-opt writable-cgroups --security-opt apparmor=unconfined --security-opt seccomp=unconfined img", func(s *spec) {
			s.HostConfig.SecurityOpt = []string{"no-new-privileges", "writable-cgroups", "apparmor=unconfined", "seccomp=unconfined"}
		}},
		{"system paths", "--security-opt systempaths=unconfined img", func(s *spec) {
			s.HostConfig.MaskedPaths, s.HostConfig.ReadonlyPaths = []string{}, []string{}
		}},
		{"namespaces", "--pid host --ipc shareable --uts host --userns host --cgroupns private img", func(s *spec) {
			h := s.HostConfig
			h.PidMode, h.IpcMode, h.UTSMode, h.UsernsMode, h.CgroupnsMode = "host", "shareable", "host", "host", "private"
		}},
		{"sysctls", "--sysctl net.core.somaxconn=1 --sysctl kernel.shmmax=2 img", func(s *spec) {
			s.HostConfig.Sysctls = map[string]string{"net.core.somaxconn": "1", "kernel.shmmax": "2"}
		}},
		{"file system", "--read-only --storage-opt size=1G img", func(s *spec) {
			s.HostConfig.ReadonlyRootfs, s.HostConfig.StorageOpt = true, map[string]string{"size": "1G"}
		}},
		{"init", "--init img", func(s *spec) { s.HostConfig.Init = ptr(true) }},
		{"no init", "--init=false img", func(s *spec) { s.HostConfig.Init = ptr(false) }},
		{"restart", "--restart on-failure:3 img", func(s *spec) {
			s.HostConfig.RestartPolicy = container.RestartPolicy{Name: "on-failure", MaximumRetryCount: 3}
		}},
		{"rm", "--rm img", func(s *spec) { s.HostConfig.AutoRemove = true }},
		{"logs", "--log-driver local --log-opt max-size=1m img", func(s *spec) {
			s.HostConfig.LogConfig = container.LogConfig{Type: "local", Config: map[string]string{"max-size": "1m"}}
		}},
		{"groups, runtime, annotations", "--group-add 5 --runtime r --annotation a=b --cgroup-parent /p --isolation default img", func(s *spec) {
			h := s.HostConfig
			h.GroupAdd, h.Runtime, h.Annotations, h.CgroupParent, h.Isolation = []string{"5"}, "r", map[string]string{"a": "b"}, "/p", "default"
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parse(t, tc.in)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults()
			tc.want(want)
			if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, network.Port{}), cmpopts.EquateEmpty()); d != "" {
				t.Errorf("%s (-want +got):\n%s", tc.in, d)
			}
		})
	}
}

func publish(s *runflags.Spec, p string, b ...network.PortBinding) {
	s.Config.ExposedPorts[port(p)] = struct{}{}
	s.HostConfig.PortBindings[port(p)] = b
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"port", "-p x:y img", "invalid containerPort: y"},
		{"host port", "-p x:80 img", "invalid hostPort: x"},
		{"no port", "-p 80: img", "no port specified: 80:<empty>"},
		{"big port", "-p 70000 img", "invalid containerPort: 70000"},
		{"protocol", "-p 80/icmp img", "invalid proto: icmp"},
		{"port address", "-p 1.2.3:80:80 img", "invalid IP address: 1.2.3"},
		{"ranges", "-p 1-3:1-2 img", "invalid ranges specified for container and host Ports: 1-2 and 1-3"},
		{"backward range", "-p 2-1 img", "invalid containerPort: 2-1"},
		{"expose", "--expose 1:2 img", "invalid port format for --expose: 1:2"},
		{"stream", "-a stdfoo img", "valid streams are STDIN, STDOUT and STDERR"},
		{"variable", "-e =x img", "invalid environment variable: =x"},
		{"label", "-l =x img", "invalid label '=x': empty name"},
		{"address", "--dns x img", "IP address is not correctly formatted: x"},
		{"domain", "--dns-search 123 img", "123 is not a valid domain"},
		{"host", "--add-host x img", `bad format for add-host: "x"`},
		{"host address", "--add-host x:y img", `invalid IP address in add-host: "y"`},
		{"link", "--link a:b:c img", "bad format for links: a:b:c"},
		{"sysctl", "--sysctl kernel.x=1 img", "sysctl 'kernel.x=1' is not allowed"},
		{"size", "-m x img", "invalid size: 'x'"},
		{"cpus", "--cpus x img", "failed to parse x as a rational number"},
		{"fine cpus", "--cpus 0.0000000001 img", "value is too precise"},
		{"ulimit", "--ulimit x img", "invalid ulimit argument: x"},
		{"device", "--device dev img", "dev is not an absolute path"},
		{"device mode", "--device /a:/b:x img", "bad mode specified: x"},
		{"device rule", "--device-cgroup-rule x img", "invalid device cgroup format 'x'"},
		{"weight", "--blkio-weight-device /dev/a:5 img", "invalid weight for device: /dev/a:5"},
		{"rate", "--device-read-iops /dev/a:1k img", "invalid rate for device: /dev/a:1k. The correct format is <device-path>:<number>. Number must be a positive integer"},
		{"swappiness", "--memory-swappiness 101 img", "invalid value: 101. Valid memory swappiness range is 0-100"},
		{"health", "--no-healthcheck --health-cmd x img", "--no-healthcheck conflicts with --health-* options"},
		{"health time", "--health-interval -1s img", "--health-interval cannot be negative"},
		{"rm and restart", "--rm --restart always img", "conflicting options: cannot specify both --restart and --rm"},
		{"restart", "--restart on-failure:x img", "invalid restart policy format: maximum retry count must be an integer"},
		{"pid", "--pid x img", "--pid: invalid PID mode"},
		{"uts", "--uts x img", "--uts: invalid UTS mode"},
		{"userns", "--userns x img", "--userns: invalid USER mode"},
		{"cgroupns", "--cgroupns x img", "--cgroupns: invalid CGROUP mode"},
		{"security", "--security-opt x img", `Invalid --security-opt: "x"`},
		{"profile", "--security-opt seccomp=/nonexistent img", "opening seccomp profile (/nonexistent) failed: open /nonexistent: no such file or directory"},
		{"storage", "--storage-opt x img", "invalid storage option"},
		{"log options", "--log-driver none --log-opt a=b img", "invalid logging opts for driver none"},
		{"volume", "-v : img", ""},
		{"volume sections", "-v /a::ro img", "invalid spec: /a::ro: empty section between colons"},
		{"volume colons", "-v /a:/b:ro:x img", "invalid spec: /a:/b:ro:x: too many colons"},
		{"alias on the bridge", "--network-alias a img", "network-scoped aliases are only supported for user-defined networks"},
		{"network twice", "--network a --network a img", `network "a" is specified multiple times`},
		{"networks mixed", "--network a --network host img", "conflicting options: cannot attach both user-defined and non-user-defined network-modes"},
		{"two addresses", "--network name=a,ip=1.2.3.4 --ip 1.2.3.5 img", "conflicting options: cannot specify both --ip and per-network IPv4 address"},
		{"network field", "--network name=a,x=y img", "invalid field key x"},
		{"mac", "--mac-address x img", "x is not a valid mac address"},
		{"windows", "--cpu-count 1 img", `"--cpu-count" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux`},
		{"kernel memory", "--kernel-memory 1m img", `"--kernel-memory" is not supported: the kernel no longer has that limit`},
		{"api socket", "--use-api-socket img", `"--use-api-socket" is not supported: mount the socket with -v if the container may control this host`},
		{"gpus", "--gpus x img", `invalid count (x): value must be either "all" or an integer: invalid syntax`},
		{"env file", "--env-file /nonexistent img", "open /nonexistent: no such file or directory"},
	} {
		if tc.want == "" {
			continue
		}
		t.Run(tc.name, func(t *testing.T) {
			_, err := parse(t, tc.in)
			if err == nil {
				t.Fatalf("%s: no error", tc.in)
			}
			got := err.Error()
			// pflag names the flag before the value's own error.
			if _, after, ok := strings.Cut(got, " flag: "); ok {
				got = after
			}
			if got != tc.want {
				t.Errorf("%s: %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestMount(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     mount.Mount
		err      string
	}{
		{"volume", "source=v,target=/t", mount.Mount{Type: "volume", Source: "v", Target: "/t"}, ""},
		{"bind", "type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave", mount.Mount{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true, BindOptions: &mount.BindOptions{Propagation: "rslave"}}, ""},
		{"bind, writable", "type=bind,src=/a,destination=/b,ro=true,bind-recursive=writable", mount.Mount{Type: "bind", Source: "/a", Target: "/b", ReadOnly: true, BindOptions: &mount.BindOptions{ReadOnlyNonRecursive: true}}, ""},
		{"tmpfs", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777", mount.Mount{Type: "tmpfs", Target: "/t", TmpfsOptions: &mount.TmpfsOptions{SizeBytes: 1 << 20, Mode: 0o1777}}, ""},
		{"volume options", `type=volume,dst=/t,volume-nocopy,volume-driver=local,"volume-opt=o=a,b",volume-label=k=v,volume-subpath=x`, mount.Mount{Type: "volume", Target: "/t",
			VolumeOptions: &mount.VolumeOptions{NoCopy: true, Subpath: "x", Labels: map[string]string{"k": "v"}, DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"o": "a,b"}}}}, ""},
		{"image", "type=image,src=img,dst=/t,image-subpath=x", mount.Mount{Type: "image", Source: "img", Target: "/t", ImageOptions: &mount.ImageOptions{Subpath: "x"}}, ""},
		{"no target", "type=bind,src=/a", mount.Mount{}, "target is required"},
		{"mixed", "type=bind,src=/a,dst=/b,tmpfs-size=1", mount.Mount{}, "cannot mix 'tmpfs-*' options with mount type 'bind'"},
		{"unknown", "type=bind,bogus=1,dst=/b", mount.Mount{}, "unexpected key 'bogus' in 'bogus=1'"},
		{"no pair", "bogus", mount.Mount{}, "invalid field 'bogus' must be a key=value pair"},
		{"recursion", "type=bind,src=/a,dst=/b,bind-recursive=readonly,readonly", mount.Mount{}, "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"},
		{"boolean", "type=bind,src=/a,dst=/b,ro=maybe", mount.Mount{}, "invalid value for ro: maybe"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := runflags.Mount(tc.in)
			if tc.err != "" {
				if err == nil || err.Error() != tc.err {
					t.Fatalf("error %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFiles(t *testing.T) {
	t.Setenv("KNOWN", "yes")
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	env := write("env", "\xEF\xBB\xBFA=1\n# no\n\n  B=two words \r\nKNOWN\nUNKNOWN_HERE\n")
	labels := write("labels", "a=b\nbare\n")
	profile := write("profile", "{\n \"defaultAction\": \"SCMP_ACT_ALLOW\"\n}\n")
	s, err := parse(t, "--env-file "+env+" -e A=3 --label-file "+labels+" -l a=c --security-opt seccomp="+profile+" img")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"A=1", "B=two words ", "KNOWN=yes", "A=3"}, s.Config.Env); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"a": "c"}, s.Config.Labels); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{`seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`}, s.HostConfig.SecurityOpt); d != "" {
		t.Error(d)
	}
	for text, want := range map[string]string{
		"=x\n":     "no variable name on line '=x'",
		"a b=c\n":  "variable 'a b' contains whitespaces",
		"\xff=1\n": "invalid utf8 bytes at line 1: [255 61 49]",
	} {
		_, err := parse(t, "--env-file "+write("bad", text)+" img")
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-p 80:80 -v a:b --mount type=bind,src=/a,dst=/b --network name=a,ip=1.2.3.4 img")
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "file") || strings.Contains(line, "seccomp") {
			return // it would read files of this machine
		}
		// Whatever strangers' scripts pass: an error, never a panic.
		_, _ = parse(t, line)
	})
}
