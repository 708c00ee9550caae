package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/executor"
	bkoci "github.com/moby/buildkit/executor/oci"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/logdriver"
	"muelle/internal/network"
	"muelle/internal/runtime"
)

// defaultHostname is what a RUN step reads as its host's name, as in BuildKit: a
// constant, so that it does not spoil reproducible builds.
const defaultHostname = "buildkitsandbox"

// bundle is everything one RUN step needs outside its process: mounts, files and
// a network, each with its release.
type bundle struct {
	o       Options
	id      string
	dir     string // ExecRoot/ID
	rootfs  string // the root filesystem, mounted in the daemon's namespace
	sandbox *network.Sandbox
	spec    *specs.Spec
	mounts  []mount.Mount // of rootfs
	user    *os.File      // the step's user namespace, or nil: the host's

	undo []func() error // in order of creation
}

func (b *bundle) later(f func() error) { b.undo = append(b.undo, f) }

// release undoes everything, last first.
func (b *bundle) release() error {
	var errs []error
	for i := len(b.undo) - 1; i >= 0; i-- {
		errs = append(errs, b.undo[i]())
	}
	b.undo = nil
	return errors.Join(errs...)
}

func (b *bundle) prepare(ctx context.Context, root executor.Mount, mounts []executor.Mount, meta executor.Meta) error {
	b.dir = filepath.Join(b.o.ExecRoot, b.id)
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return err
	}
	b.later(func() error { return os.RemoveAll(b.dir) })
	if err := b.mountRoot(ctx, root); err != nil {
		return fmt.Errorf("mount the root filesystem: %w", err)
	}
	clean := executor.MountStubsCleaner(context.WithoutCancel(ctx), b.rootfs, mounts, meta.RemoveMountStubsRecursive)
	b.later(func() error { clean(); return nil })
	if err := b.openUser(); err != nil {
		return err
	}
	if err := b.prepareNetwork(ctx, meta); err != nil {
		return err
	}
	return b.generate(ctx, mounts, meta)
}

// mountRoot mounts the step's root filesystem where the daemon can look into it:
// users are looked up, the working directory is made and mount stubs are removed
// through it. The container gets it as a bind mount.
func (b *bundle) mountRoot(ctx context.Context, root executor.Mount) error {
	ref, err := root.Src.Mount(ctx, false)
	if err != nil {
		return err
	}
	mounts, release, err := ref.Mount()
	if err != nil {
		return err
	}
	if release != nil {
		b.later(release)
	}
	b.rootfs = filepath.Join(b.dir, "rootfs")
	if err := os.Mkdir(b.rootfs, 0o700); err != nil {
		return err
	}
	b.mounts = mounts
	b.later(func() error { return mount.UnmountAll(b.rootfs, 0) })
	return mount.All(mounts, b.rootfs)
}

// prepareNetwork makes the step's sandbox and the files that name resolution needs.
func (b *bundle) prepareNetwork(ctx context.Context, meta executor.Meta) error {
	mode, err := networkMode(meta.NetMode)
	if err != nil {
		return err
	}
	hostname := meta.Hostname
	if hostname == "" {
		hostname = defaultHostname
	}
	spec := network.SandboxSpec{
		ID: b.id, Name: "build-" + b.id[:12], Hostname: hostname,
		Mode: mode, ExtraHosts: extraHosts(meta.ExtraHosts), UserNS: b.user,
	}
	if mode == "bridge" {
		spec.Endpoints = []network.EndpointSpec{{Network: "bridge"}}
	}
	sandbox, err := b.o.Networks.Prepare(ctx, spec)
	if err != nil {
		return fmt.Errorf("prepare the network of a build step: %w", err)
	}
	b.sandbox = sandbox
	b.later(func() error {
		b.closeSandboxFiles()
		return b.o.Networks.Release(context.WithoutCancel(ctx), b.id)
	})
	return errors.Join(
		os.WriteFile(filepath.Join(b.dir, "hosts"), sandbox.Hosts, 0o644),
		os.WriteFile(filepath.Join(b.dir, "resolv.conf"), sandbox.ResolvConf, 0o644),
	)
}

func networkMode(m pb.NetMode) (string, error) {
	switch m {
	case pb.NetMode_UNSET:
		return "bridge", nil
	case pb.NetMode_HOST:
		return "host", nil
	case pb.NetMode_NONE:
		return "none", nil
	}
	return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unknown network mode %s", m))
}

func extraHosts(in []executor.HostIP) []string {
	var out []string
	for _, h := range in {
		out = append(out, h.Host+":"+addr(h.IP))
	}
	return out
}

func addr(ip net.IP) string { return ip.String() }

// closeSandboxFiles closes the daemon's descriptors; the shim has its own by then.
func (b *bundle) closeSandboxFiles() {
	if b.sandbox == nil {
		return
	}
	if b.sandbox.NetNS != nil {
		b.sandbox.NetNS.Close()
		b.sandbox.NetNS = nil
	}
	for _, h := range b.sandbox.Held {
		h.File.Close()
	}
	b.sandbox.Held = nil
}

// generate makes the specification. BuildKit's own generator is used for it: it
// knows how to open sub-paths of mounts without following what a step may have
// planted there (CVE-2024-23651).
func (b *bundle) generate(ctx context.Context, mounts []executor.Mount, meta executor.Meta) error {
	uid, gid, groups, err := bkoci.GetUser(b.rootfs, meta.User)
	if err != nil {
		return err
	}
	if err := ensureDir(b.rootfs, meta.Cwd, int(uid), int(gid)); err != nil {
		return err
	}
	opts := []oci.SpecOpts{bkoci.WithUIDGID(uid, gid, groups)}
	if meta.ReadonlyRootFS {
		opts = append(opts, oci.WithRootFSReadonly())
	}
	parent := b.o.CgroupParent
	if meta.CgroupParent != "" {
		parent = meta.CgroupParent
	}
	meta.CgroupParent = ""
	spec, clean, err := bkoci.GenerateSpec(ctx, meta, mounts, b.id,
		filepath.Join(b.dir, "resolv.conf"), filepath.Join(b.dir, "hosts"),
		sandboxNamespace{host: meta.NetMode == pb.NetMode_HOST}, "", bkoci.ProcessSandbox, nil, "", false, "", nil, opts...)
	if err != nil {
		return err
	}
	b.later(func() error { clean(); return nil })
	spec.Process.Terminal = meta.Tty
	if spec.Process.Env, err = withHome(spec.Process.Env, b.rootfs, uid); err != nil {
		return err
	}
	if b.o.AppArmor != nil {
		if spec.Process.ApparmorProfile, err = b.o.AppArmor(); err != nil {
			return err
		}
	}
	spec.Linux.CgroupsPath = cgroupsPath(parent, b.id)
	b.spec = spec
	return nil
}

func (b *bundle) start(ctx context.Context, process executor.ProcessInfo, streams *runtime.Streams) (runtime.Task, error) {
	run := filepath.Join(b.dir, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		return nil, err
	}
	c := &runtime.Container{
		ID:        b.id,
		Dir:       run,
		Spec:      b.spec,
		Rootfs:    []runtime.Mount{{Type: "bind", Source: b.rootfs, Options: []string{"rbind"}}},
		OpenStdin: process.Stdin != nil,
		StdinOnce: true,
		Log:       logdriver.Config{Type: "none"},
		Attach:    []*runtime.Streams{streams},
	}
	if b.sandbox != nil {
		c.NetNS, c.Held = b.sandbox.NetNS, b.sandbox.Held
	}
	if b.user != nil {
		var err error
		c.UserNS = b.user
		if c.Rootfs, err = b.remap(); err != nil {
			return nil, fmt.Errorf("give the step its ids: %w", err)
		}
	}
	task, err := b.o.Runtime.Start(ctx, c)
	b.closeSandboxFiles()
	if err != nil {
		return nil, err
	}
	b.later(func() error { return task.Delete(context.WithoutCancel(ctx)) })
	return task, nil
}

func cgroupsPath(parent, id string) string { return filepath.Join("/", parent, id) }

// sandboxNamespace tells BuildKit's generator about the network: the runtime joins
// the sandbox's namespace by descriptor, so the entry stays without a path.
type sandboxNamespace struct{ host bool }

func (n sandboxNamespace) Set(s *specs.Spec) error {
	if n.host {
		return oci.WithHostNamespace(specs.NetworkNamespace)(context.Background(), nil, nil, s)
	}
	return oci.WithLinuxNamespace(specs.LinuxNamespace{Type: specs.NetworkNamespace})(context.Background(), nil, nil, s)
}

func (sandboxNamespace) Sample() (*resourcestypes.NetworkSample, error) { return nil, nil }
func (sandboxNamespace) Close() error                                   { return nil }
