package container_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/blkiodev"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	mnet "github.com/moby/moby/api/types/network"

	"muelle/internal/container"
)

// field is one thing that a client may ask of a new container.
type field struct {
	name string // of the field, with what distinguishes several values of it
	set  func(*ctypes.Config, *ctypes.HostConfig)
	// refused is part of the error that answers it. Otherwise it must change what is
	// asked of runtime or networks, or, if kept is said, be kept for inspect alone:
	// kept says why that is all that there is to do.
	refused, kept string
}

func ptr[T any](v T) *T { return &v }

// fields has a line for each field of Config and HostConfig: none is ever dropped
// silently. TestFields fails for a field that a newer API has and this table lacks.
func fields(bind string) []field {
	type c = *ctypes.Config
	type h = *ctypes.HostConfig
	const clients, windows, engine = "the client's own matter", "of Windows", "of the service itself"
	throttle := func(path string) []*blkiodev.ThrottleDevice {
		return []*blkiodev.ThrottleDevice{{Path: path, Rate: 1 << 20}}
	}
	return []field{
		{name: "Hostname", set: func(c c, h h) { c.Hostname = "x" }},
		{name: "Domainname", set: func(c c, h h) { c.Domainname = "x.y" }},
		{name: "User", set: func(c c, h h) { c.User = "7:8" }},
		{name: "AttachStdin", set: func(c c, h h) { c.AttachStdin = true }, kept: clients},
		{name: "AttachStdout", set: func(c c, h h) { c.AttachStdout = true }, kept: clients},
		{name: "AttachStderr", set: func(c c, h h) { c.AttachStderr = true }, kept: clients},
		{name: "ExposedPorts", set: func(c c, h h) { c.ExposedPorts = mnet.PortSet{mnet.MustParsePort("80/tcp"): {}} }},
		{name: "Tty", set: func(c c, h h) { c.Tty = true }},
		{name: "OpenStdin", set: func(c c, h h) { c.OpenStdin = true }},
		{name: "StdinOnce", set: func(c c, h h) { c.StdinOnce = true }},
		{name: "Env", set: func(c c, h h) { c.Env = []string{"A=1"} }},
		{name: "Cmd", set: func(c c, h h) { c.Cmd = []string{"other"} }},
		{name: "Healthcheck", set: func(c c, h h) { c.Healthcheck = &ctypes.HealthConfig{Test: []string{"CMD", "true"}} }, kept: engine},
		{name: "ArgsEscaped", set: func(c c, h h) { c.ArgsEscaped = true }, kept: windows},
		{name: "Image", set: func(c c, h h) { c.Image = "nope" }, refused: "No such image: nope"},
		{name: "Volumes", set: func(c c, h h) { c.Volumes = map[string]struct{}{"/v": {}} }},
		{name: "WorkingDir", set: func(c c, h h) { c.WorkingDir = "/w" }},
		{name: "Entrypoint", set: func(c c, h h) { c.Entrypoint = []string{"/entry"} }},
		{name: "NetworkDisabled", set: func(c c, h h) { c.NetworkDisabled = true }},
		{name: "OnBuild", set: func(c c, h h) { c.OnBuild = []string{"RUN x"} }, kept: "for an image made of the container"},
		{name: "Labels", set: func(c c, h h) { c.Labels = map[string]string{"a": "b"} }, kept: engine},
		{name: "StopSignal", set: func(c c, h h) { c.StopSignal = "SIGINT" }, kept: engine},
		{name: "StopTimeout", set: func(c c, h h) { c.StopTimeout = ptr(3) }, kept: engine},
		{name: "Shell", set: func(c c, h h) { c.Shell = []string{"ash"} }, kept: "of health checks"},

		{name: "Binds", set: func(c c, h h) { h.Binds = []string{bind + ":/b"} }},
		{name: "Binds unknown mode", set: func(c c, h h) { h.Binds = []string{bind + ":/b:quick"} }, refused: "invalid mode"},
		{name: "ContainerIDFile", set: func(c c, h h) { h.ContainerIDFile = "/x" }, kept: clients},
		{name: "LogConfig", set: func(c c, h h) { h.LogConfig = ctypes.LogConfig{Type: "none"} }},
		{name: "LogConfig options", set: func(c c, h h) { h.LogConfig.Config = map[string]string{"max-size": "1m"} }},
		{name: "LogConfig tag", set: func(c c, h h) { h.LogConfig.Config = map[string]string{"tag": "x"} }},
		{name: "LogConfig unknown option", set: func(c c, h h) { h.LogConfig.Config = map[string]string{"nope": "x"} }, refused: "unknown log opt 'nope' for json-file log driver"},
		{name: "LogConfig buffer", set: func(c c, h h) { h.LogConfig.Config = map[string]string{"max-buffer-size": "1m"} }, refused: "max-buffer-size"},
		{name: "LogConfig other driver", set: func(c c, h h) { h.LogConfig.Type = "gelf" }, refused: "log driver gelf is not supported"},
		{name: "NetworkMode", set: func(c c, h h) { h.NetworkMode = "host" }},
		{name: "PortBindings", set: func(c c, h h) { h.PortBindings = mnet.PortMap{mnet.MustParsePort("80/tcp"): {{HostPort: "8080"}}} }},
		{name: "PortBindings SCTP", set: func(c c, h h) { h.PortBindings = mnet.PortMap{mnet.MustParsePort("80/sctp"): {{}}} }},
		{name: "RestartPolicy", set: func(c c, h h) { h.RestartPolicy.Name = "always" }, kept: engine},
		{name: "RestartPolicy unknown", set: func(c c, h h) { h.RestartPolicy.Name = "often" }, refused: "invalid restart policy"},
		{name: "AutoRemove", set: func(c c, h h) { h.AutoRemove = true }, kept: engine},
		{name: "VolumeDriver", set: func(c c, h h) { h.VolumeDriver = "nfs" }, refused: "HostConfig.VolumeDriver=nfs is not supported"},
		{name: "VolumesFrom", set: func(c c, h h) { h.VolumesFrom = []string{"donor"} }},
		{name: "ConsoleSize", set: func(c c, h h) { h.ConsoleSize = [2]uint{10, 20} }},
		{name: "Annotations", set: func(c c, h h) { h.Annotations = map[string]string{"a": "b"} }},
		{name: "CapAdd", set: func(c c, h h) { h.CapAdd = []string{"NET_ADMIN"} }},
		{name: "CapDrop", set: func(c c, h h) { h.CapDrop = []string{"CHOWN"} }},
		{name: "CgroupnsMode", set: func(c c, h h) { h.CgroupnsMode = "private" }},
		{name: "DNS", set: func(c c, h h) { h.DNS = []netip.Addr{netip.MustParseAddr("9.9.9.9")} }},
		{name: "DNSOptions", set: func(c c, h h) { h.DNSOptions = []string{"ndots:2"} }},
		{name: "DNSSearch", set: func(c c, h h) { h.DNSSearch = []string{"x"} }},
		{name: "ExtraHosts", set: func(c c, h h) { h.ExtraHosts = []string{"a:1.2.3.4"} }},
		{name: "GroupAdd", set: func(c c, h h) { h.GroupAdd = []string{"77"} }},
		{name: "IpcMode", set: func(c c, h h) { h.IpcMode = "host" }},
		{name: "Cgroup", set: func(c c, h h) { h.Cgroup = "container:donor" }, refused: "HostConfig.Cgroup is not supported"},
		{name: "Links", set: func(c c, h h) { h.Links = []string{"donor:d"} }},
		{name: "OomScoreAdj", set: func(c c, h h) { h.OomScoreAdj = 5 }},
		{name: "PidMode", set: func(c c, h h) { h.PidMode = "host" }},
		{name: "PidMode unknown", set: func(c c, h h) { h.PidMode = "x" }, refused: "invalid PID mode"},
		{name: "Privileged", set: func(c c, h h) { h.Privileged = true }},
		{name: "PublishAllPorts", set: func(c c, h h) { h.PublishAllPorts = true }},
		{name: "ReadonlyRootfs", set: func(c c, h h) { h.ReadonlyRootfs = true }},
		{name: "SecurityOpt", set: func(c c, h h) { h.SecurityOpt = []string{"no-new-privileges"} }},
		{name: "SecurityOpt seccomp", set: func(c c, h h) { h.SecurityOpt = []string{"seccomp=unconfined"} }},
		{name: "SecurityOpt systempaths", set: func(c c, h h) { h.SecurityOpt = []string{"systempaths=unconfined"} }},
		{name: "SecurityOpt AppArmor", set: func(c c, h h) { h.SecurityOpt = []string{"apparmor=strict"} }, refused: "apparmor=strict"},
		{name: "SecurityOpt SELinux", set: func(c c, h h) { h.SecurityOpt = []string{"label=type:x"} }, kept: "of SELinux, where that is enabled: Docker leaves it out elsewhere too"},
		{name: "SecurityOpt unknown", set: func(c c, h h) { h.SecurityOpt = []string{"smack=x"} }, refused: "smack"},
		{name: "StorageOpt", set: func(c c, h h) { h.StorageOpt = map[string]string{"size": "1G"} }, refused: "HostConfig.StorageOpt is not supported"},
		{name: "Tmpfs", set: func(c c, h h) { h.Tmpfs = map[string]string{"/t": "size=1m"} }},
		{name: "UTSMode", set: func(c c, h h) { h.UTSMode = "host" }},
		{name: "UsernsMode", set: func(c c, h h) { h.UsernsMode = "private" }, refused: "user namespace mode"},
		{name: "ShmSize", set: func(c c, h h) { h.ShmSize = 1 << 20 }},
		{name: "Sysctls", set: func(c c, h h) { h.Sysctls = map[string]string{"net.core.somaxconn": "5"} }},
		{name: "Runtime", set: func(c c, h h) { h.Runtime = "kata" }, refused: "unknown or invalid runtime name: kata"},
		{name: "Umask", set: func(c c, h h) { h.Umask = ptr(uint32(0o27)) }},
		{name: "Isolation", set: func(c c, h h) { h.Isolation = "hyperv" }, refused: "invalid isolation"},
		{name: "Mounts", set: func(c c, h h) { h.Mounts = []mount.Mount{{Type: "bind", Source: bind, Target: "/m"}} }},
		{name: "Mounts of an image", set: func(c c, h h) { h.Mounts = []mount.Mount{{Type: "image", Source: "box", Target: "/m"}} }},
		{name: "Mounts of an image that is not there", set: func(c c, h h) { h.Mounts = []mount.Mount{{Type: "image", Source: "nope", Target: "/m"}} }, refused: "No such image: nope"},
		{name: "Mounts of a part", set: func(c c, h h) {
			h.Mounts = []mount.Mount{{Type: "volume", Source: "vv", Target: "/m", VolumeOptions: &mount.VolumeOptions{Subpath: "a/b"}}}
		}},
		{name: "Mounts of a part outside", set: func(c c, h h) {
			h.Mounts = []mount.Mount{{Type: "volume", Source: "vv", Target: "/m", VolumeOptions: &mount.VolumeOptions{Subpath: "../b"}}}
		}, refused: "must be a relative path within the source"},
		{name: "Mounts of a part of nothing", set: func(c c, h h) {
			h.Mounts = []mount.Mount{{Type: "volume", Target: "/m", VolumeOptions: &mount.VolumeOptions{Subpath: "b"}}}
		}, refused: "must not set Subpath when using anonymous volumes"},
		{name: "Mounts of a pipe", set: func(c c, h h) { h.Mounts = []mount.Mount{{Type: "npipe", Source: "x", Target: "/m"}} }, refused: "named pipes are of Windows"},
		{name: "Mounts of a cluster", set: func(c c, h h) { h.Mounts = []mount.Mount{{Type: "cluster", Source: "x", Target: "/m"}} }, refused: "there is no swarm"},
		{name: "MaskedPaths", set: func(c c, h h) { h.MaskedPaths = []string{"/x"} }},
		{name: "ReadonlyPaths", set: func(c c, h h) { h.ReadonlyPaths = []string{"/x"} }},
		{name: "Init", set: func(c c, h h) { h.Init = ptr(true) }},

		{name: "CPUShares too few", set: func(c c, h h) { h.CPUShares = 1 }, refused: "the range is from 2 to 262144"},
		{name: "NanoCPUs too few", set: func(c c, h h) { h.NanoCPUs = 1e6 }, refused: "Range of CPUs is from 0.01"},
		{name: "CpusetMems missing", set: func(c c, h h) { h.CpusetMems = "999" }, refused: "Requested memory nodes are not available"},
		{name: "Devices permissions", set: func(c c, h h) { h.Devices = []ctypes.DeviceMapping{{PathOnHost: "/dev/null", CgroupPermissions: "x"}} }, refused: "invalid permissions of device /dev/null"},
		{name: "Devices by their own name", set: func(c c, h h) { h.Devices = []ctypes.DeviceMapping{{PathOnHost: "/dev/null"}} }},
		{name: "ExposedPorts unknown protocol", set: func(c c, h h) { c.ExposedPorts = mnet.PortSet{mnet.MustParsePort("80/foo"): {}} }, refused: "invalid port specification"},

		{name: "CPUShares", set: func(c c, h h) { h.CPUShares = 5 }},
		{name: "Memory", set: func(c c, h h) { h.Memory = 64 << 20 }},
		{name: "Memory too small", set: func(c c, h h) { h.Memory = 5 << 20 }, refused: "Minimum memory limit allowed is 6MB"},
		{name: "Memory negative", set: func(c c, h h) { h.Memory = -1 }, refused: "Minimum memory limit allowed is 6MB"},
		{name: "NanoCPUs", set: func(c c, h h) { h.NanoCPUs = 5e8 }},
		{name: "CgroupParent", set: func(c c, h h) { h.CgroupParent = "/x" }},
		{name: "BlkioWeight", set: func(c c, h h) { h.BlkioWeight = 50 }},
		{name: "BlkioWeightDevice", set: func(c c, h h) { h.BlkioWeightDevice = []*blkiodev.WeightDevice{{Path: "/dev/null", Weight: 50}} }, refused: "/dev/null is not a block device"},
		{name: "BlkioWeightDevice null", set: func(c c, h h) { h.BlkioWeightDevice = []*blkiodev.WeightDevice{nil} }, refused: "BlkioWeightDevice"},
		{name: "BlkioDeviceReadBps", set: func(c c, h h) { h.BlkioDeviceReadBps = throttle("/dev/null") }, refused: "/dev/null is not a block device"},
		{name: "BlkioDeviceWriteBps", set: func(c c, h h) { h.BlkioDeviceWriteBps = throttle("/dev/null") }, refused: "/dev/null is not a block device"},
		{name: "BlkioDeviceReadIOps", set: func(c c, h h) { h.BlkioDeviceReadIOps = throttle("/dev/null") }, refused: "/dev/null is not a block device"},
		{name: "BlkioDeviceWriteIOps", set: func(c c, h h) { h.BlkioDeviceWriteIOps = throttle("/dev/null") }, refused: "/dev/null is not a block device"},
		{name: "BlkioDeviceReadBps null", set: func(c c, h h) { h.BlkioDeviceReadBps = []*blkiodev.ThrottleDevice{nil} }, refused: "block device"},
		{name: "CPUPeriod", set: func(c c, h h) { h.CPUPeriod = 50000 }},
		{name: "CPUQuota", set: func(c c, h h) { h.CPUQuota = 50000 }},
		{name: "CPURealtimePeriod", set: func(c c, h h) { h.CPURealtimePeriod = 1000; h.CPURealtimeRuntime = 2000 }, refused: "real-time"},
		{name: "CPURealtimeRuntime", set: func(c c, h h) { h.CPURealtimeRuntime = 1000; h.CPURealtimePeriod = 500 }, refused: "real-time"},
		{name: "CpusetCpus", set: func(c c, h h) { h.CpusetCpus = "0" }},
		{name: "CpusetCpus wrong", set: func(c c, h h) { h.CpusetCpus = "a" }, refused: "Invalid value a for cpuset cpus"},
		{name: "CpusetMems", set: func(c c, h h) { h.CpusetMems = "0" }},
		{name: "Devices", set: func(c c, h h) {
			h.Devices = []ctypes.DeviceMapping{{PathOnHost: "/dev/null", PathInContainer: "/dev/nil", CgroupPermissions: "r"}}
		}},
		{name: "DeviceCgroupRules", set: func(c c, h h) { h.DeviceCgroupRules = []string{"c 1:3 rw"} }},
		{name: "DeviceRequests", set: func(c c, h h) {
			h.DeviceRequests = []ctypes.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
		}, refused: "could not select device driver"},
		{name: "MemoryReservation", set: func(c c, h h) { h.MemoryReservation = 32 << 20 }},
		{name: "MemoryReservation negative", set: func(c c, h h) { h.MemoryReservation = -5 }, refused: "Minimum memory reservation allowed is 6MB"},
		{name: "MemorySwap", set: func(c c, h h) { h.MemorySwap = -1 }},
		{name: "MemorySwap alone", set: func(c c, h h) { h.MemorySwap = 64 << 20 }, refused: "You should always set the Memory limit"},
		{name: "MemorySwappiness", set: func(c c, h h) { h.MemorySwappiness = ptr(int64(5)) }},
		{name: "OomKillDisable", set: func(c c, h h) { h.OomKillDisable = ptr(true) }},
		{name: "PidsLimit", set: func(c c, h h) { h.PidsLimit = ptr(int64(9)) }},
		{name: "Ulimits", set: func(c c, h h) { h.Ulimits = []*ctypes.Ulimit{{Name: "nofile", Soft: 5, Hard: 6}} }},
		{name: "Ulimits unknown", set: func(c c, h h) { h.Ulimits = []*ctypes.Ulimit{{Name: "files", Soft: 5, Hard: 6}} }, refused: "invalid ulimit type: files"},
		{name: "Ulimits upside down", set: func(c c, h h) { h.Ulimits = []*ctypes.Ulimit{{Name: "nofile", Soft: 7, Hard: 6}} }, refused: "soft limit must be less than or equal to hard limit"},
		{name: "Ulimits null", set: func(c c, h h) { h.Ulimits = []*ctypes.Ulimit{nil} }, refused: "invalid ulimit"},
		{name: "CPUCount", set: func(c c, h h) { h.CPUCount = 1 }, refused: "Windows"},
		{name: "CPUPercent", set: func(c c, h h) { h.CPUPercent = 1 }, refused: "Windows"},
		{name: "IOMaximumIOps", set: func(c c, h h) { h.IOMaximumIOps = 1 }, refused: "Windows"},
		{name: "IOMaximumBandwidth", set: func(c c, h h) { h.IOMaximumBandwidth = 1 }, refused: "Windows"},
	}
}

func TestFields(t *testing.T) {
	b := newBench(t)
	donor := b.create(container.CreateOptions{Name: "donor", Config: &ctypes.Config{}, HostConfig: &ctypes.HostConfig{Mounts: []mount.Mount{{Type: "volume", Source: "shared", Target: "/shared"}}}})
	if err := b.Start(t.Context(), donor); err != nil {
		t.Fatal(err)
	}
	bind := filepath.Join(b.dir, "bind")
	if err := os.Mkdir(bind, 0o755); err != nil {
		t.Fatal(err)
	}
	inTable := map[string]bool{}
	plain, err := b.asked(func(*ctypes.Config, *ctypes.HostConfig) {})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields(bind) {
		name, _, _ := strings.Cut(f.name, " ")
		inTable[name] = true
		t.Run(f.name, func(t *testing.T) {
			got, err := b.asked(f.set)
			switch {
			case f.refused != "":
				if err == nil || !strings.Contains(err.Error(), f.refused) {
					t.Errorf("got %v, want a refusal with %q", err, f.refused)
				} else if !errdefs.IsInvalidArgument(err) && !errdefs.IsNotImplemented(err) && !errdefs.IsNotFound(err) {
					t.Errorf("%v is no refusal of what was asked", err)
				}
			case err != nil:
				t.Error(err)
			case got == plain && f.kept == "":
				t.Error("is dropped: neither refused nor asked of anybody")
			case got != plain && f.kept != "":
				t.Error("is asked of others after all")
			}
		})
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[ctypes.Config](), reflect.TypeFor[ctypes.HostConfig](), reflect.TypeFor[ctypes.Resources]()} {
		for f := range typ.Fields() {
			if !f.Anonymous && !inTable[f.Name] {
				t.Errorf("%s.%s: is it honoured or refused?", typ, f.Name)
			}
		}
	}
}

// asked gives what runtime and networks are asked for when such a container is
// started, without what differs from container to container.
func (b *bench) asked(set func(*ctypes.Config, *ctypes.HostConfig)) (string, error) {
	b.t.Helper()
	o := container.CreateOptions{Config: &ctypes.Config{Image: "box"}, HostConfig: &ctypes.HostConfig{}}
	set(o.Config, o.HostConfig)
	r, err := b.Create(b.t.Context(), o)
	if err != nil {
		return "", err
	}
	defer func() {
		if err := b.Remove(b.t.Context(), r.ID, container.RemoveOptions{Force: true, Volumes: true}); err != nil {
			b.t.Error(err)
		}
	}()
	if err := b.Start(b.t.Context(), r.ID); err != nil {
		return "", err
	}
	c, err := b.Inspect(b.t.Context(), r.ID, false)
	if err != nil {
		return "", err
	}
	b.rt.mu.Lock()
	run := b.rt.asked[r.ID]
	b.rt.mu.Unlock()
	b.nets.mu.Lock()
	sandbox := b.nets.asked[r.ID]
	b.nets.mu.Unlock()
	run.NetNS, run.Attach, run.Held = nil, nil, nil
	text, err := json.Marshal([]any{run, sandbox})
	if err != nil {
		return "", err
	}
	return strings.NewReplacer(r.ID, "ID", r.ID[:12], "ID", strings.TrimPrefix(c.Name, "/"), "NAME").Replace(string(text)), nil
}

func TestEndpointFields(t *testing.T) {
	b := newBench(t)
	for name, e := range map[string]mnet.EndpointSettings{
		"links":                {Links: []string{"a:b"}},
		"driver options":       {DriverOpts: map[string]string{"a": "b"}},
		"link-local addresses": {IPAMConfig: &mnet.EndpointIPAMConfig{LinkLocalIPs: []netip.Addr{netip.MustParseAddr("169.254.1.1")}}},
	} {
		t.Run(name, func(t *testing.T) {
			id := b.create(container.CreateOptions{
				Config: &ctypes.Config{Image: "box"}, HostConfig: &ctypes.HostConfig{NetworkMode: "front"},
				Networking: &mnet.NetworkingConfig{EndpointsConfig: map[string]*mnet.EndpointSettings{"front": &e}},
			})
			if err := b.Start(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			b.nets.mu.Lock()
			asked := b.nets.asked[id].Endpoints
			b.nets.mu.Unlock()
			if len(asked) != 1 || cmp.Diff(*asked[0].Settings, e, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) != "" {
				t.Errorf("the network is asked for %+v", asked)
			}
		})
	}
}

func TestUpdateRefusesWhatItCannotChange(t *testing.T) {
	b := newBench(t)
	id := b.create(container.CreateOptions{})
	for name, r := range map[string]ctypes.Resources{
		"Ulimits":      {Ulimits: []*ctypes.Ulimit{{Name: "nofile", Soft: 5, Hard: 6}}},
		"Devices":      {Devices: []ctypes.DeviceMapping{{PathOnHost: "/dev/null"}}},
		"CgroupParent": {CgroupParent: "x"},
	} {
		if _, err := b.Update(t.Context(), id, ctypes.UpdateConfig{Resources: r}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
