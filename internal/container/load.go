package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/selinux/go-selinux"

	"muelle/internal/id"
	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
)

// load brings back what the daemon knew when it ended.
func (s *Service) load(ctx context.Context) error {
	durable, err := ids(s.o.Root)
	if err != nil {
		return err
	}
	volatile, err := ids(s.o.ExecRoot)
	if err != nil {
		return err
	}
	for cid := range durable {
		s.loadRecord(cid, false)
	}
	for cid := range volatile {
		if s.byID[cid] == nil {
			s.loadRecord(cid, true)
		}
	}
	list := s.all()
	// In the order of creation, so that what happens is the same each time.
	slices.SortFunc(list, func(a, b *entry) int { return a.rec.Created.Compare(b.rec.Created) })
	for _, c := range list {
		s.regain(ctx, c)
		s.regainLoan(c)
	}
	tasks := s.adopt(ctx, list, volatile)
	if err := s.o.Networks.Adopted(ctx); err != nil {
		s.log.Error("take over networks", "err", err)
	}
	for _, c := range list {
		if !c.st.Changing {
			continue
		}
		c.st.Changing = false // saved with what Mend gives, or with the end
		if task := tasks[c]; task != nil {
			if err := s.mendNetwork(ctx, c, task); err != nil {
				s.log.Error("finish a change of networks or ports that was cut off", "container", c.id, "err", err)
			}
		}
	}
	if err := s.o.Volumes.Settle(); err != nil {
		s.log.Error("unmount volumes that nobody uses", "err", err)
	}
	maps.Copy(durable, volatile)
	s.addStrays(durable)
	for cid := range durable {
		if s.byID[cid] == nil {
			s.cleanLeftover(cid)
		}
	}
	var due []*entry
	for _, c := range list {
		if s.resume(ctx, c, tasks[c]) {
			c.booted = make(chan struct{})
			due = append(due, c)
		}
	}
	for _, c := range due {
		s.background(func() { s.startOnBoot(c) })
	}
	return nil
}

// ids gives the containers that have a folder below dir.
func ids(dir string) (map[string]bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	out := make(map[string]bool, len(entries))
	for _, e := range entries {
		if e.IsDir() && id.Valid(e.Name()) {
			out[e.Name()] = true
		}
	}
	return out, nil
}

// addStrays adds containers of which only processes are left: what the records said
// of them is gone, with a disk that was put back or an exec-root that was cleared.
func (s *Service) addStrays(known map[string]bool) {
	if s.o.DefaultCgroupParent != "" || s.o.CgroupDriver == CgroupSystemd {
		return // a parent that other daemons may have too
	}
	names, err := cgroup.Children(s.o.CgroupParent)
	if err != nil {
		s.log.Warn("look for processes without a container", "err", err)
		return
	}
	for _, name := range names {
		if id.Valid(name) {
			known[name] = true
		}
	}
}

// loadRecord reads one container; a folder without a record is a leftover. One whose
// record cannot be read stays on disk and is told of.
func (s *Service) loadRecord(cid string, volatile bool) {
	c := s.newEntry(cid, volatile)
	if _, err := os.Stat(filepath.Join(c.recordDir(), recordName+".json")); errors.Is(err, os.ErrNotExist) {
		return
	}
	err := c.openRecords()
	if err == nil {
		err = c.records.Sweep()
	}
	if err == nil {
		var rec *record
		if rec, err = c.records.Load(recordName); err == nil {
			c.rec = *rec
		}
	}
	if err == nil && (c.rec.ID != cid || c.rec.Config == nil || c.rec.HostConfig == nil) {
		err = fmt.Errorf("record of container %s: %w", cid, errdefs.ErrDataLoss)
	}
	if err != nil {
		s.log.Error("load container", "container", cid, "err", err)
		s.broken = append(s.broken, cid)
		return
	}
	c.st = state{Status: ctypes.StateCreated}
	// The state is written without fsync: after a power loss it may be missing.
	if st, err := c.states.Load(stateName); err == nil {
		c.st = *st
	} else if !errdefs.IsNotFound(err) {
		s.log.Warn("load state", "container", cid, "err", err)
	}
	if owner, taken := s.byName[c.rec.Name]; taken {
		s.log.Error("two containers have the same name", "container", cid, "other", owner, "name", c.rec.Name)
		c.rec.Name = id.Short(cid)
	}
	if c.rec.Debug != nil && c.rec.Debug.Of != "" {
		c.layers = filepath.Join(s.o.Root, c.rec.Debug.Of)
	}
	s.o.UserNS.Pool.Keep(cid, c.rec.Userns)
	if c.rec.ProcessLabel != "" {
		// Containers that share processes or IPC share a label, too.
		if err := selinux.ReserveLabelV2(c.rec.ProcessLabel); err != nil && !errors.Is(err, selinux.ErrMCSAlreadyExists) {
			s.log.Error("reserve label", "container", cid, "label", c.rec.ProcessLabel, "err", err)
		}
	}
	s.byID[cid], s.byName[c.rec.Name] = c, cid
}

// regain takes again what the container holds: layers, image, volumes.
func (s *Service) regain(ctx context.Context, c *entry) {
	if c.lower, c.lowerErr = s.o.Images.Lower(ctx, c.rec.image(), c.id); c.lowerErr != nil {
		s.log.Error("find the image's layers", "container", c.id, "image", c.rec.Config.Image, "err", c.lowerErr)
	}
	if err := s.holdMountedImages(ctx, c, c.rec.Mounts); err != nil {
		s.log.Error("find the layers of a mounted image", "container", c.id, "err", err)
	}
	s.o.Images.Hold(c.rec.Image.ID, c.id, c.rec.Name, c.st.running())
	for _, m := range c.rec.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		if _, err := s.o.Volumes.Acquire(ctx, m.Name, c.id); err != nil {
			s.log.Error("hold volume", "container", c.id, "volume", m.Name, "err", err)
		}
	}
}

// adopt finds the processes of containers that ran, and gives the networks of those
// that still do back to the network service. Nothing may be started before.
func (s *Service) adopt(ctx context.Context, list []*entry, present map[string]bool) map[*entry]runtime.Task {
	tasks := make(map[*entry]runtime.Task, len(list))
	for _, c := range list {
		alive := c.st.alive()
		if !present[c.id] && !alive {
			continue
		}
		if !present[c.id] || !alive {
			// Another boot, or a start or a clean-up that was cut off.
			s.cleanRun(ctx, c)
			continue
		}
		task, err := s.o.Runtime.Load(ctx, c.id, c.execDir)
		if err != nil {
			if !errdefs.IsNotFound(err) {
				s.log.Error("adopt container", "container", c.id, "err", err)
			}
			s.cleanRun(ctx, c)
			continue
		}
		tasks[c] = task
		if err := s.mountVolumes(ctx, c.id, c.rec.Mounts); err != nil {
			s.log.Error("hold mounted volumes", "container", c.id, "err", err)
		}
		if task.Pid() != 0 && !c.rec.HostConfig.NetworkMode.IsContainer() {
			if err := s.adoptNetwork(ctx, c, task); err != nil {
				s.log.Error("take over the container's network", "container", c.id, "err", err)
				s.o.Networks.Spare(c.st.Endpoints)
			}
		}
	}
	return tasks
}

func (s *Service) adoptNetwork(ctx context.Context, c *entry, task runtime.Task) error {
	held, err := task.Held(ctx)
	if err != nil {
		return err
	}
	var netns *os.File
	if !c.rec.HostConfig.NetworkMode.IsHost() {
		if netns, err = task.NetNS(ctx); err != nil {
			for _, f := range held {
				f.Close()
			}
			return err
		}
	}
	endpoints := c.st.Endpoints
	if c.st.Changing {
		endpoints, _ = c.st.settled(&c.rec)
	}
	spec := sandboxSpec(&c.rec, endpoints, s.defaults.Load())
	spec.Ready = c.ready()
	spec.Detached = !c.rec.HostConfig.NetworkMode.IsHost() && !c.rec.HostConfig.NetworkMode.IsNone()
	return s.o.Networks.Adopt(ctx, spec, held, netns)
}

func (s *Service) clean(ctx context.Context, c *entry) {
	if err := s.o.Runtime.Clean(ctx, c.id, c.execDir, s.group(c)); err != nil {
		s.log.Error("clean up container", "container", c.id, "err", err)
	}
}

// cleanRun cleans up what is left of a run that is not going on.
func (s *Service) cleanRun(ctx context.Context, c *entry) {
	s.clean(ctx, c)
	if err := c.unmountShm(); err != nil {
		s.log.Error("clean up container", "container", c.id, "err", err)
	}
}

// cleanLeftover finishes a creation or a removal that was cut off, or the removal of
// what went with the last boot.
func (s *Service) cleanLeftover(cid string) {
	if slices.Contains(s.broken, cid) {
		return
	}
	c := s.newEntry(cid, false)
	occupied := s.occupy(cid)
	s.background(func() {
		defer occupied()
		s.clean(s.ctx, c)
		for _, name := range c.anonymousNoted() {
			s.removeAnonymous(s.ctx, cid, name)
		}
		if err := c.removeFolders(); err != nil {
			s.log.Error("remove container's folders", "container", cid, "err", err)
		}
	})
}

// resume watches what runs, handles what ended, and says what is to be started
// because its policy asks for it.
func (s *Service) resume(ctx context.Context, c *entry, task runtime.Task) (due bool) {
	if task != nil {
		c.task, c.ended = task, make(chan struct{})
		s.thaw(ctx, c, task)
		if task.Pid() != 0 && c.st.Status == ctypes.StateRunning {
			s.startHealth(c)
		}
		if task.Pid() == 0 {
			s.watch(c, task) // it ended meanwhile: known before anybody asks
			return false
		}
		s.regainExecs(ctx, c, task)
		s.watchOOM(c, task)
		s.background(func() { s.watch(c, task) })
		return false
	}
	lost := c.st.alive()
	if lost {
		// The machine was restarted, or the shim is gone: nobody knows how it ended.
		c.st.Status, c.st.ExitCode = ctypes.StateExited, 255
		c.st.FinishedAt, c.st.Endpoints, c.st.Ports = time.Now().UTC(), nil, nil
	}
	restarting := c.st.Status == ctypes.StateRestarting
	if restarting {
		c.st.Status = ctypes.StateExited
	}
	if lost || restarting {
		s.save(c)
		s.o.Images.Hold(c.rec.Image.ID, c.id, c.rec.Name, false)
	}
	// As Docker, also one that was never started: whoever made it, to start it next,
	// lost the daemon and does not come back.
	if c.rec.HostConfig.AutoRemove {
		if err := s.removeEnded(ctx, c, true); err != nil {
			s.log.Error("remove ended container", "container", c.id, "err", err)
		}
		return false
	}
	// Between two runs the policy has decided already, and counted this one.
	if !restarting && !wantsBoot(c.rec.HostConfig.RestartPolicy, &c.st) {
		return false
	}
	if s.o.StartOnBoot != nil && !s.o.StartOnBoot(c.rec.Config.Labels) {
		s.pending = append(s.pending, c.id)
		return false
	}
	return true
}

// startOnBoot starts c after those whose namespaces it shares.
func (s *Service) startOnBoot(c *entry) {
	defer close(c.booted)
	rec, _ := c.snapshot()
	hc := rec.HostConfig
	for _, ref := range []string{hc.NetworkMode.ConnectedContainer(), hc.IpcMode.Container(), hc.PidMode.Container()} {
		other, err := s.find(ref)
		if err != nil || other.booted == nil {
			continue // it runs or will not; the start tells
		}
		// Nobody waits for himself: who is named here existed before.
		select {
		case <-other.booted:
		case <-s.ctx.Done():
			return
		}
	}
	if s.awaitLoan(s.ctx, c) != nil || s.acquire(s.ctx, c) != nil {
		return
	}
	defer c.op.release()
	c.mu.Lock()
	err := c.startable(c.id)
	c.mu.Unlock()
	if err != nil {
		return // somebody was quicker
	}
	if err := s.start(context.WithoutCancel(s.ctx), c); err != nil {
		s.log.Warn("start container by its restart policy", "container", c.id, "err", err)
	}
}

// Pending gives the ids of containers that their restart policy wanted started when
// the daemon came up and that StartOnBoot left to somebody else. They are given once.
func (s *Service) Pending() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.pending
	s.pending = nil
	return list
}

// thaw lets a container go on that a commit had frozen when the daemon died.
func (s *Service) thaw(ctx context.Context, c *entry, task runtime.Task) {
	if !c.st.PausedByCommit {
		return
	}
	if err := task.Resume(ctx); err != nil && !errdefs.IsFailedPrecondition(err) {
		s.log.Error("unpause after commit", "container", c.id, "err", err)
	}
	c.st.Status, c.st.PausedByCommit = ctypes.StateRunning, false
	s.save(c)
}
