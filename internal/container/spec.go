package container

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	mnet "github.com/moby/moby/api/types/network"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/linux/cgroup"
	"muelle/internal/oci"
	"muelle/internal/runtime"
)

type endpointMap = map[string]*mnet.EndpointSettings

// resolveUser finds a user in the container's passwd and group, which read gives.
func resolveUser(spec string, groups []string, read func(string) ([]byte, error)) (specs.User, string, error) {
	file := func(name string) (io.ReadSeeker, error) {
		data, err := read(name)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the container's %s: %w", name, err)
		}
		return bytes.NewReader(data), nil
	}
	passwd, err := file("/etc/passwd")
	if err != nil {
		return specs.User{}, "", err
	}
	group, err := file("/etc/group")
	if err != nil {
		return specs.User{}, "", err
	}
	return oci.ResolveUser(spec, groups, passwd, group)
}

// rootfs is the overlay of the image's layers below the container's own one.
func (c *entry) rootfs() []runtime.Mount {
	lower := c.lower
	if len(lower) == 0 {
		lower = []string{c.emptyLayer()}
	}
	return []runtime.Mount{{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + strings.Join(lower, ":"), "upperdir=" + c.upper(), "workdir=" + c.work(),
	}}}
}

// files are those of a container that live on the host.
type files struct{ hosts, hostname, resolvConf string }

// writeFiles writes /etc/hosts, /etc/hostname and /etc/resolv.conf of the run. A
// container that joins another's network uses the other's files.
func (n *starting) writeFiles(context.Context) error {
	if n.sandbox == nil {
		other, err := n.s.find(n.rec.HostConfig.NetworkMode.ConnectedContainer())
		if err != nil {
			return err
		}
		n.files = other.files()
		return nil
	}
	n.files = n.c.files()
	for name, data := range map[string][]byte{
		n.files.hosts: n.sandbox.Hosts, n.files.resolvConf: n.sandbox.ResolvConf, n.files.hostname: []byte(n.rec.Config.Hostname + "\n"),
	} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			return fmt.Errorf("write the container's files: %w", err)
		}
		if err := n.ownFile(name); err != nil {
			return err
		}
	}
	return nil
}

func (c *entry) files() files {
	return files{
		hosts: filepath.Join(c.execDir, "hosts"), hostname: filepath.Join(c.execDir, "hostname"),
		resolvConf: filepath.Join(c.execDir, "resolv.conf"),
	}
}

// buildSpec puts the document for the runtime together.
func (n *starting) buildSpec(ctx context.Context) error {
	o := oci.Options{
		ID: n.c.id, Hostname: n.rec.Config.Hostname, Domainname: n.rec.Config.Domainname,
		Config: n.rec.Config, HostConfig: n.rec.HostConfig,
		User: n.user, Home: n.home,
		Mounts:      specMounts(n.rec.Mounts, n.images, n.files),
		LinkEnv:     n.linked,
		CgroupsPath: n.s.cgroupsPath(n.c.id, n.rec.HostConfig), CgroupVersion: cgroup.Version(), IDs: n.ids,
	}
	if n.rec.HostConfig.IpcMode.IsShareable() {
		o.ShmPath = n.c.shmPath()
	}
	n.mapMounts(o.Mounts)
	o.ProcessLabel, o.MountLabel = n.rec.ProcessLabel, n.rec.MountLabel
	o.Seccomp, o.NoNewPrivileges, o.Modules = n.s.o.Security.Seccomp, n.s.o.Security.NoNewPrivileges, n.s.o.Security.Modules
	o.AppArmor = n.s.o.Security.AppArmor
	if err := n.shareNamespaces(&o); err != nil {
		return err
	}
	var err error
	if n.spec, err = oci.Spec(o); err != nil {
		return err
	}
	if err := n.s.defaults.Load().CDI.Inject(n.spec, n.rec.HostConfig.DeviceRequests); err != nil {
		return err
	}
	if profile := n.spec.Process.ApparmorProfile; profile != "" {
		if err := n.s.o.Security.LoadAppArmor(profile); err != nil {
			return err
		}
	}
	// A host without message queues has none to share.
	n.spec.Mounts = slices.DeleteFunc(n.spec.Mounts, func(m specs.Mount) bool {
		_, err := os.Stat("/dev/mqueue")
		return m.Source == "/dev/mqueue" && errors.Is(err, os.ErrNotExist)
	})
	return nil
}

// shareNamespaces joins the process and IPC namespaces of other containers.
func (n *starting) shareNamespaces(o *oci.Options) error {
	s, hc := n.s, n.rec.HostConfig
	if hc.PidMode.IsContainer() {
		other, err := s.find(hc.PidMode.Container())
		if err != nil {
			return err
		}
		task, err := s.runningTask("PID", other.id)
		if err != nil {
			return err
		}
		if err := n.sameUser(other); err != nil {
			return err
		}
		o.PIDNamespace = fmt.Sprintf("/proc/%d/ns/pid", task.Pid())
	}
	if hc.IpcMode.IsContainer() {
		other, err := s.find(hc.IpcMode.Container())
		if err != nil {
			return err
		}
		rec, _ := other.snapshot()
		if mode := rec.HostConfig.IpcMode; !mode.IsShareable() && !mode.IsHost() {
			return conflict("cannot join IPC of a container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container)", other.id)
		}
		task, err := s.runningTask("IPC", other.id)
		if err != nil {
			return err
		}
		o.IPCNamespace = fmt.Sprintf("/proc/%d/ns/ipc", task.Pid())
		o.ShmPath = "/dev/shm"
		if rec.HostConfig.IpcMode.IsShareable() {
			o.ShmPath = other.shmPath()
		}
	}
	return nil
}
