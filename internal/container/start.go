package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/api"
	"muelle/internal/container/config"
	"muelle/internal/container/layer"
	"muelle/internal/linux/userns"
	"muelle/internal/network"
	"muelle/internal/runtime"
	"muelle/internal/step"
)

// exitUnknown is the exit code of a start that failed for another reason than the
// program.
const exitUnknown = 128

// starting is what the steps of a start hand over.
type starting struct {
	s       *Service
	c       *entry
	rec     record
	ids     *userns.Map      // nil: the host's
	userns  *os.File         // nil: the host's
	ownUser bool             // userns is this run's, not shared
	sandbox *network.Sandbox // nil: another container's
	netns   *os.File
	user    specs.User
	home    string
	files   files
	images  map[string][]string // layers of mounted images, by destination
	linked  []string            // environment of links
	spec    *specs.Spec
	ready   runtime.Prepared // until the process is started
	up      chan struct{}    // closed when ready is known
	task    runtime.Task
	pending []*attachment
	sent    bool // the shim has its copies of the sandbox's files
}

// Start starts a container that does not run. errdefs.ErrNotModified: it runs.
func (s *Service) Start(ctx context.Context, ref string) error {
	c, err := s.find(ref)
	if err != nil {
		return err
	}
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	defer c.op.release()
	c.mu.Lock()
	err = c.startable(ref)
	if err == nil {
		c.st.Stopped, c.st.RestartCount, c.backoff = false, 0, backoff{}
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	// A client that goes away does not stop a start half way.
	begun := time.Now()
	err = s.start(context.WithoutCancel(ctx), c)
	if err == nil {
		s.timers.Start.Since(begun)
	}
	return err
}

// startable tells why a container cannot be started. mu is held.
func (c *entry) startable(ref string) error {
	switch {
	case c.removed:
		return errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	case c.removing:
		return conflict("container is marked for removal and cannot be started")
	case c.st.Status == ctypes.StatePaused:
		return conflict("cannot start a paused container, try unpause instead")
	case c.st.Status == ctypes.StateDead:
		return conflict("container is marked for removal and cannot be started")
	case c.loan != nil:
		return c.lent("start")
	case c.st.running():
		return errdefs.ErrNotModified.WithMessage("container " + c.id + " is already running")
	}
	return nil
}

// start brings a container up: network, files, process. op is held. After a failure
// nothing of the run is left, the reason is in the state, and a container that goes
// when it ends is gone.
func (s *Service) start(ctx context.Context, c *entry) error {
	if err := s.awaitCleaned(ctx, c); err != nil {
		return err
	}
	if err := s.awaitWriters(ctx, c); err != nil {
		return err
	}
	// Also after a start that failed, or in a boot that did not see it created.
	if err := os.Mkdir(c.execDir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make container's folder: %w", err)
	}
	n := &starting{s: s, c: c, up: make(chan struct{})}
	c.mu.Lock()
	n.rec = c.rec
	n.pending, c.pending = c.pending, nil
	c.mu.Unlock()
	err := step.Run(ctx,
		step.Step{Name: "user namespace", Do: n.openUser},
		step.Together("prepare",
			step.Step{Name: "network", Do: n.prepareNetwork, Undo: n.releaseNetwork},
			step.Step{Name: "shim", Do: n.prepareShim, Undo: n.discardShim},
			step.Step{Name: "layer", Do: n.prepareLayers},
			step.Step{Name: "mounts", Do: n.prepareMounts, Undo: func(context.Context) error {
				s.unmountVolumes(c.id, n.rec.Mounts)
				return nil
			}},
			step.Step{Name: "log", Do: n.resolveLog},
		),
		step.Step{Name: "files", Do: n.writeFiles},
		step.Step{Name: "shared memory", Do: n.mountShm, Undo: func(context.Context) error { return c.unmountShm() }},
		step.Step{Name: "labels", Do: n.relabel},
		step.Step{Name: "document", Do: n.buildSpec},
		step.Step{Name: "process", Do: n.startProcess},
	)
	if err != nil {
		n.closeFiles()
		return s.startFailed(ctx, n, err)
	}
	if !n.sent {
		n.closeFiles()
	}
	s.started(n)
	return nil
}

// awaitCleaned waits until what the last run left was cleaned up.
func (s *Service) awaitCleaned(ctx context.Context, c *entry) error {
	c.mu.Lock()
	cleaned := c.cleaned
	c.mu.Unlock()
	if cleaned == nil {
		return nil
	}
	select {
	case <-cleaned:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")
	}
}

func (n *starting) prepareNetwork(ctx context.Context) error {
	mode := n.rec.HostConfig.NetworkMode
	if mode.IsContainer() {
		task, err := n.s.runningTask("network", mode.ConnectedContainer())
		if err != nil {
			return err
		}
		if n.netns, err = task.NetNS(ctx); err != nil {
			return fmt.Errorf("join network of container %s: %w", mode.ConnectedContainer(), err)
		}
		return nil
	}
	spec := sandboxSpec(&n.rec, n.rec.Endpoints, n.s.defaults.Load())
	spec.Detached = len(spec.Endpoints) > 0 // a container that has left every network starts on its first again
	spec.UserNS = n.userns
	if n.s.runtimeOf(n.rec.HostConfig.Runtime) == "" {
		spec.Hold = n.hold
	}
	begun := time.Now()
	if err := n.prepareLinks(&spec); err != nil {
		return err
	}
	sandbox, err := n.s.o.Networks.Prepare(ctx, spec)
	if err != nil {
		return fmt.Errorf("failed to set up container networking: %w", err)
	}
	n.s.timers.Allocate.Since(begun)
	n.sandbox, n.netns = sandbox, sandbox.NetNS
	return nil
}

func (n *starting) releaseNetwork(ctx context.Context) error {
	if n.sandbox == nil {
		return nil
	}
	return n.s.o.Networks.Release(ctx, n.c.id)
}

// runningTask gives the process of a container whose namespaces are to be shared.
func (s *Service) runningTask(namespace, ref string) (runtime.Task, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.st.Status == ctypes.StateRestarting:
		return nil, conflict("container %s is restarting, wait until the container is running", c.id)
	case !c.st.alive() || c.task == nil:
		return nil, conflict("cannot join %s of a non running container: %s", namespace, c.id)
	}
	return c.task, nil
}

// prepareLayers finds the image's layers where that failed when the daemon came up,
// and makes the writable one.
func (n *starting) prepareLayers(ctx context.Context) error {
	if err := n.s.findLayers(ctx, n.c, &n.rec); err != nil {
		return err
	}
	if err := n.c.makeLayer(); err != nil {
		return err
	}
	return n.resolveUser()
}

// findLayers finds the image's layers where that failed when the daemon came up. op is
// held.
func (s *Service) findLayers(ctx context.Context, c *entry, rec *record) error {
	if c.lowerErr == nil {
		return nil
	}
	lower, err := s.o.Images.Lower(ctx, rec.image(), c.id)
	if err != nil {
		return fmt.Errorf("find the layers of image %s: %w", rec.Config.Image, err)
	}
	c.mu.Lock()
	c.lower, c.lowerErr = lower, nil
	c.mu.Unlock()
	return nil
}

func (n *starting) resolveUser() (err error) {
	layers := append([]string{n.c.upper()}, n.c.lower...)
	n.user, n.home, err = resolveUser(n.rec.Config.User, n.rec.HostConfig.GroupAdd, func(name string) ([]byte, error) {
		return layer.ReadFile(layers, name)
	})
	return err
}

// prepareShim has the process beside the container come up while its network does.
func (n *starting) prepareShim(context.Context) (err error) {
	defer close(n.up)
	if n.s.runtimeOf(n.rec.HostConfig.Runtime) == "" {
		n.ready, err = n.s.o.Runtime.Prepare(n.c.id, n.c.execDir, n.s.cgroupsPath(n.c.id, n.rec.HostConfig), bindings(n.rec.HostConfig))
	}
	return err
}

// hold gives the shim sockets while other things are prepared.
func (n *starting) hold(ctx context.Context, held []runtime.Held) error {
	select {
	case <-n.up:
	case <-ctx.Done():
		return ctx.Err()
	}
	if n.ready == nil {
		return nil // that step tells why
	}
	return n.ready.Hold(ctx, held)
}

// bindings counts the published ports, where each has its line.
func bindings(hc *ctypes.HostConfig) (n int) {
	for _, b := range hc.PortBindings {
		n += len(b)
	}
	return n
}

func (n *starting) discardShim(context.Context) error {
	if n.ready == nil {
		return nil
	}
	return n.ready.Discard()
}

func (n *starting) startProcess(ctx context.Context) error {
	c := &runtime.Container{
		ID: n.c.id, Dir: n.c.execDir, Spec: n.spec, Rootfs: n.c.rootfs(), NetNS: n.netns, UserNS: n.userns, Subpaths: subpaths(n.rec.Mounts),
		OpenStdin: n.rec.Config.OpenStdin, StdinOnce: n.rec.Config.StdinOnce,
		ConsoleHeight: uint16(n.rec.HostConfig.ConsoleSize[0]), ConsoleWidth: uint16(n.rec.HostConfig.ConsoleSize[1]),
		Log: n.rec.Log, Init: n.s.o.Init, Runtime: n.s.runtimeOf(n.rec.HostConfig.Runtime),
	}
	c.Idle = n.rec.Debug != nil
	if n.rec.HostConfig.Init != nil {
		c.Init = *n.rec.HostConfig.Init
	}
	if n.sandbox != nil {
		c.Held = n.sandbox.Held
	}
	if n.ids != nil {
		for i := range c.Rootfs {
			c.Rootfs[i].Options = append(c.Rootfs[i].Options, "idmap")
		}
	}
	// A thousand published ports are two thousand descriptors: nobody waits for that
	// but the end of this run, when the ports are to be free.
	c.Sent = func() {
		n.sent = true
		n.c.copies.Add(1)
		n.s.background(func() {
			defer n.c.copies.Done()
			n.closeFiles()
		})
	}
	for _, a := range n.pending {
		c.Attach = append(c.Attach, a.streams)
	}
	c.Prepared, n.ready = n.ready, nil
	task, err := n.s.o.Runtime.Start(ctx, c)
	if errors.Is(err, runtime.ErrLog) {
		return unreachable(c.Log.Remote, err)
	}
	if err != nil {
		return err
	}
	n.task = task
	return nil
}

// closeFiles closes the daemon's copies: the shim has its own.
func (n *starting) closeFiles() {
	n.closeUser()
	if n.netns != nil {
		n.netns.Close()
	}
	if n.sandbox != nil {
		for _, h := range n.sandbox.Held {
			h.File.Close()
		}
	}
}

// started records that the container runs, tells of it, and begins to watch it.
func (s *Service) started(n *starting) {
	c := n.c
	// An exec needs no more of it, and profiles are large.
	n.spec = &specs.Spec{Process: n.spec.Process}
	s.volumeEvents(c.id, n.rec.Mounts, events.ActionMount)
	c.mu.Lock()
	c.task, c.spec, c.ended, c.cleaned = n.task, n.spec, make(chan struct{}), nil
	first := !c.st.Started
	c.st = state{
		Status: ctypes.StateRunning, StartedAt: n.task.StartedAt().UTC(), FinishedAt: c.st.FinishedAt,
		Started: true, RestartCount: c.st.RestartCount, Health: freshHealth(checkOf(n.rec.Config), c.st.Health), Pid: n.task.Pid(), Endings: c.st.Endings,
		Userns: n.ids,
	}
	c.asked = nil
	if n.sandbox != nil {
		c.st.Endpoints, c.st.Ports = n.sandbox.Endpoints, n.sandbox.Ports
	}
	if first && !c.volatile && !n.rec.HostConfig.RestartPolicy.IsNone() {
		// Whether a policy applies at the next boot must survive a power loss.
		if err := c.states.Save(stateName, &c.st, true); err != nil {
			s.log.Error("save state", "container", c.id, "err", err)
		}
	} else {
		s.save(c)
	}
	s.startHealth(c)
	c.notify()
	c.mu.Unlock()
	s.tellReady(c)
	s.relink(c)
	s.o.Images.Hold(n.rec.Image.ID, c.id, n.rec.Name, true)
	s.event(c, events.ActionStart, nil)
	s.watchOOM(c, n.task)
	s.background(func() { s.watch(c, n.task) })
}

// startFailed records why a start failed. op is held.
func (s *Service) startFailed(ctx context.Context, n *starting, cause error) error {
	c := n.c
	code, err := startError(cause)
	s.clearExecDir(c)
	for _, a := range n.pending {
		a.finish(nil)
	}
	c.mu.Lock()
	c.st.ExitCode, c.st.Error = code, err.Error()
	c.addEnding(Ending{At: time.Now().UTC(), Code: code, Error: err.Error()})
	if c.st.Status == ctypes.StateRestarting {
		c.st.Status = ctypes.StateExited
		tell(&c.waiters, waited{code: code, err: c.st.Error})
	}
	s.save(c)
	c.notify()
	remove := c.rec.HostConfig.AutoRemove
	c.mu.Unlock()
	if remove {
		if err := s.removeEnded(ctx, c, true); err != nil {
			s.log.Error("remove container after failed start", "container", c.id, "err", err)
		}
	}
	return err
}

// startError words the failure of a start as Docker does: its client reads the exit
// code, 125, 126 or 127, out of the text.
func startError(cause error) (code int, err error) {
	var se *runtime.StartError
	if !errors.As(cause, &se) {
		return exitUnknown, cause
	}
	code = se.Code
	if code == 0 || code == 125 {
		code = exitUnknown
	}
	msg := "failed to create task for container: failed to create shim task: OCI runtime create failed: unable to start container process: " + se.Error() + ": unknown"
	if code == 126 || code == 127 {
		return code, errdefs.ErrInvalidArgument.WithMessage(msg)
	}
	return code, errdefs.ErrUnknown.WithMessage(msg)
}

// sandboxSpec describes a container to the networks.
func sandboxSpec(rec *record, endpoints endpointMap, d *Defaults) network.SandboxSpec {
	cfg, hc := rec.Config, rec.HostConfig
	spec := network.SandboxSpec{
		ID: rec.ID, Name: rec.Name, Hostname: cfg.Hostname, Domain: cfg.Domainname,
		Project: cfg.Labels[api.LabelProject], Service: cfg.Labels[api.LabelService],
		Mode:  string(hc.NetworkMode),
		Ports: hc.PortBindings, Exposed: cfg.ExposedPorts, PublishAll: hc.PublishAllPorts,
		DNS: orDefault(hc.DNS, d.DNS), DNSSearch: orDefault(hc.DNSSearch, d.DNSSearch), DNSOptions: orDefault(hc.DNSOptions, d.DNSOptions),
		ExtraHosts: hc.ExtraHosts, Sysctls: hc.Sysctls,
	}
	// Checked when the container was created; what an older one has is no reason not to start.
	spec.PortNames, _ = config.PortNames(cfg.Labels)
	for _, name := range slices.Sorted(maps.Keys(endpoints)) {
		if hc.NetworkMode.IsHost() || hc.NetworkMode.IsNone() {
			break
		}
		spec.Endpoints = append(spec.Endpoints, network.EndpointSpec{Network: name, Settings: endpoints[name]})
	}
	return spec
}
