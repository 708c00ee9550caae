package container

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	mnet "github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/id"
)

// loan says that a container's files are mounted by a debug session's container.
type loan struct {
	to   *entry
	back chan struct{} // closed when they are free again
}

// unclaimed is how long a session's container waits for its session to begin.
const unclaimed = time.Minute

// lent words why a container whose files are a session's cannot be used. mu is held.
func (c *entry) lent(what string) error {
	return conflict("cannot %s container %q: it is being debugged by %s: end the session first, or remove that container by force", what, "/"+c.rec.Name, id.Short(c.loan.to.id))
}

func (c *entry) borrower() *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loan == nil {
		return nil
	}
	return c.loan.to
}

// awaitLoan waits until a container's files are nobody else's.
func (s *Service) awaitLoan(ctx context.Context, c *entry) error {
	c.mu.Lock()
	l := c.loan
	c.mu.Unlock()
	if l == nil {
		return nil
	}
	select {
	case <-l.back:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")
	}
}

// awaitBorrower waits until a session's container runs or what it has is given back.
func (s *Service) awaitBorrower(ctx context.Context, c, h *entry) error {
	// Held while a session's container is made.
	if err := s.acquire(ctx, c); err != nil {
		return err
	}
	c.op.release()
	if _, st := h.snapshot(); st.alive() {
		return nil
	}
	return s.awaitLoan(ctx, c)
}

// endSession ends the session that has a container's files.
func (s *Service) endSession(ctx context.Context, c *entry) error {
	h := c.borrower()
	if h == nil {
		return nil
	}
	err := s.Remove(ctx, h.id, RemoveOptions{Force: true, Volumes: true})
	// Whoever removes it already, or has: the files come back.
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		return err
	}
	return s.awaitLoan(ctx, c)
}

// giveBack ends what a session's container, which is gone, had of another one.
func (s *Service) giveBack(h *entry, rec *record) {
	if rec.Debug == nil || rec.Debug.Of == "" {
		return
	}
	c, err := s.find(rec.Debug.Of)
	if err != nil {
		return // gone too
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loan != nil && c.loan.to == h {
		close(c.loan.back)
		c.loan = nil
	}
}

// regainLoan notes, when the daemon comes up, whose files a session's container has.
func (s *Service) regainLoan(h *entry) {
	if h.rec.Debug == nil {
		return
	}
	if c := s.byID[h.rec.Debug.Of]; c != nil {
		c.loan = &loan{to: h, back: make(chan struct{})}
	}
}

// debugged gives the container for a session: the one that is named, or one of the
// session's own where that does not run, or is an image.
func (s *Service) debugged(ctx context.Context, ref, network string) (c *entry, own bool, err error) {
	c, err = s.find(ref)
	if errdefs.IsNotFound(err) {
		h, err := s.debugImage(ctx, ref, network)
		return h, true, err
	}
	if err != nil {
		return nil, false, err
	}
	_, st := c.snapshot()
	if st.running() {
		if network != "" {
			return nil, false, invalid("container %s runs: a session has its network, no other", ref)
		}
		_, err := c.execTask(ref)
		return c, false, err
	}
	h, err := s.debugResting(ctx, c, ref, network)
	return h, true, err
}

// debugImage makes a container of an image for a session. What the session writes goes
// with it.
func (s *Service) debugImage(ctx context.Context, ref, network string) (*entry, error) {
	img, err := s.o.Images.Get(ctx, ref)
	if errdefs.IsNotFound(err) {
		return nil, errdefs.ErrNotFound.WithMessage("No such container or image: " + ref)
	}
	if err != nil {
		return nil, err
	}
	cfg := &ctypes.Config{Image: ref, User: "0:0", Labels: map[string]string{api.LabelDebug: img.ID.String()}}
	idleConfig(cfg)
	n, err := s.plan(ctx, CreateOptions{Config: cfg, HostConfig: idleHost(&ctypes.HostConfig{}, network)})
	if err != nil {
		return nil, err
	}
	n.rec.Debug = &debugRecord{}
	return n.c, s.makeIdle(ctx, n)
}

// debugResting makes a container that has the files and the mounts of one that does not
// run, which cannot be started or removed meanwhile.
func (s *Service) debugResting(ctx context.Context, c *entry, ref, network string) (*entry, error) {
	if err := s.acquire(ctx, c); err != nil {
		return nil, err
	}
	defer c.op.release()
	c.mu.Lock()
	rec, err := c.rec, c.startable(ref)
	c.mu.Unlock()
	if errdefs.IsNotModified(err) {
		err = conflict("container %s was started meanwhile", ref)
	}
	if err != nil {
		return nil, err
	}
	// A layer is mounted once.
	for _, wait := range []func(context.Context, *entry) error{s.awaitCleaned, s.awaitWriters} {
		if err := wait(ctx, c); err != nil {
			return nil, err
		}
	}
	n, err := s.planResting(ctx, c, &rec, network)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.loan = &loan{to: n.c, back: make(chan struct{})}
	c.mu.Unlock()
	if err := s.makeIdle(ctx, n); err != nil {
		s.giveBack(n.c, &n.rec)
		return nil, err
	}
	return n.c, nil
}

// planResting puts together the record of a container that has another one's files.
func (s *Service) planResting(ctx context.Context, c *entry, rec *record, network string) (*creation, error) {
	was := rec.Config
	cfg := &ctypes.Config{
		Image: rec.Image.ID.String(), User: "0:0", Hostname: was.Hostname, Domainname: was.Domainname, Env: slices.Clone(was.Env),
		WorkingDir: was.WorkingDir, Labels: map[string]string{api.LabelDebug: rec.ID},
	}
	idleConfig(cfg)
	n, err := s.plan(ctx, CreateOptions{Config: cfg, HostConfig: idleHost(rec.HostConfig, network)})
	if err != nil {
		return nil, fmt.Errorf("debug container %s: %w", rec.ID, err)
	}
	// The image's volumes would be new ones: the container has its own.
	n.rec.Mounts = slices.Clone(rec.Mounts)
	for i := range n.rec.Mounts {
		m := &n.rec.Mounts[i]
		m.Anonymous, m.NoCopy, m.Driver, m.DriverOpts, m.Labels = false, true, "", nil, nil
	}
	n.rec.Config.Image = was.Image
	n.rec.Debug = &debugRecord{Of: rec.ID}
	n.c.layers = c.layers
	return n, nil
}

// idleConfig is the configuration of a container without a program.
func idleConfig(cfg *ctypes.Config) {
	cfg.Entrypoint, cfg.Cmd = []string{"/sbin/docker-init"}, nil
	cfg.Healthcheck = &ctypes.HealthConfig{Test: []string{"NONE"}}
}

// idleHost keeps of a container's host configuration what its files and its security
// are, and nothing that concerns others: names, ports, namespaces, limits.
func idleHost(was *ctypes.HostConfig, network string) *ctypes.HostConfig {
	if network == "" {
		network = mnet.NetworkNone
	}
	hc := &ctypes.HostConfig{
		AutoRemove: true, NetworkMode: ctypes.NetworkMode(network), LogConfig: ctypes.LogConfig{Type: "none"}, Runtime: OwnRuntime,
		ReadonlyRootfs: was.ReadonlyRootfs, Tmpfs: was.Tmpfs, ShmSize: was.ShmSize, Privileged: was.Privileged,
		CapAdd: was.CapAdd, CapDrop: was.CapDrop, SecurityOpt: was.SecurityOpt, UsernsMode: was.UsernsMode,
		MaskedPaths: was.MaskedPaths, ReadonlyPaths: was.ReadonlyPaths,
	}
	hc.CgroupParent = was.CgroupParent
	hc.Devices, hc.DeviceCgroupRules, hc.DeviceRequests = was.Devices, was.DeviceCgroupRules, was.DeviceRequests
	return hc
}

// makeIdle makes a session's container and starts it.
func (s *Service) makeIdle(ctx context.Context, n *creation) error {
	if err := s.make(ctx, n, ""); err != nil {
		return err
	}
	// It goes when the start fails.
	return s.Start(ctx, n.c.id)
}

// endUnclaimed ends a session's container whose session did not begin.
func (s *Service) endUnclaimed(x *exec) {
	timer := time.NewTimer(unclaimed)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.done:
	case <-s.ctx.Done():
		return
	}
	x.c.mu.Lock()
	begun := x.started && x.proc != nil
	x.c.mu.Unlock()
	if begun {
		return // it ends with its last session
	}
	if err := s.Remove(s.ctx, x.c.id, RemoveOptions{Force: true, Volumes: true}); err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
		s.log.Error("remove container of a debug session", "container", x.c.id, "err", err)
	}
}

// awaitSession waits, after a session, until what was there for it only is gone.
func (s *Service) awaitSession(x *exec) {
	if x.debug == nil || !x.debug.own {
		return
	}
	select {
	case <-x.done:
	case <-s.ctx.Done():
		return
	}
	x.c.mu.Lock()
	gone := make(chan waited, 1)
	if x.c.removed {
		gone <- waited{}
	} else {
		x.c.gone = append(x.c.gone, gone)
	}
	rec := x.c.rec
	x.c.mu.Unlock()
	select {
	case <-gone:
	case <-s.ctx.Done():
		return
	}
	if rec.Debug.Of == "" {
		return
	}
	if c, err := s.find(rec.Debug.Of); err == nil {
		_ = s.awaitLoan(s.ctx, c) // the daemon is ending, or it is free
	}
}
