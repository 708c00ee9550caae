package container

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/linux/userns"
	"muelle/internal/oci"
	"muelle/internal/runtime"
)

// UserNS says which ids containers have that do not ask for the host's.
type UserNS struct {
	// Remap is the map of userns-remap, of every container that says nothing; nil: they
	// have the host's ids.
	Remap *userns.Map
	// Pool gives those with --userns auto a range of their own; nil: there is none.
	Pool *userns.Pool
}

// sharedUser is the one user namespace of all containers that the daemon remaps: made
// when the first is started, and kept.
type sharedUser struct {
	mu sync.Mutex
	f  *os.File
}

func (u *sharedUser) open(m *userns.Map) (*os.File, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.f == nil {
		f, err := userns.New(m)
		if err != nil {
			return nil, err
		}
		u.f = f
	}
	return u.f, nil
}

func (u *sharedUser) close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.f == nil {
		return nil
	}
	return u.f.Close()
}

// checkUserns refuses what cannot be had together, in Docker's words, and takes the
// ids of a container that asks for its own; they are kept until it is removed.
func (s *Service) checkUserns(hc *ctypes.HostConfig) (userns.Mode, error) {
	mode, err := userns.ParseMode(string(hc.UsernsMode))
	if err != nil {
		return mode, invalid("%s", err)
	}
	if mode.Host || !mode.Auto && s.o.UserNS.Remap == nil {
		return mode, nil
	}
	switch {
	case hc.Privileged:
		return mode, invalid("privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode")
	case hc.NetworkMode.IsHost():
		return mode, invalid("cannot share the host's network namespace when user namespaces are enabled")
	case hc.PidMode.IsHost():
		return mode, invalid("cannot share the host PID namespace when user namespaces are enabled")
	}
	if slices.Contains(s.defaults.Load().Runtimes, hc.Runtime) {
		return mode, invalid("user namespaces need Muelle's own runtime, not %s: run the container with --userns host", hc.Runtime)
	}
	if err := userns.Supported(); err != nil {
		return mode, errdefs.ErrNotImplemented.WithMessage(err.Error())
	}
	return mode, nil
}

func (n *creation) takeIDs(s *Service) func(context.Context) error {
	return func(context.Context) (err error) {
		if !n.userns.Auto {
			return nil
		}
		if n.rec.Userns, err = s.o.UserNS.Pool.Take(n.c.id, n.userns.Size); err != nil {
			return errdefs.ErrFailedPrecondition.WithMessage("--userns auto: " + err.Error())
		}
		return nil
	}
}

// idsOf gives the ids that a container's next run has; nil: the host's.
func (s *Service) idsOf(rec *record) *userns.Map {
	mode, err := userns.ParseMode(string(rec.HostConfig.UsernsMode))
	switch {
	case err != nil || mode.Host:
		return nil
	case mode.Auto:
		return rec.Userns
	}
	if s.o.UserNS.Remap == nil && oci.OnlyOverNetwork(rec.HostConfig) && s.mayStandApart(rec.HostConfig) && len(sharedWith(rec.HostConfig)) == 0 {
		return userns.Same()
	}
	return s.o.UserNS.Remap
}

// mayStandApart tells whether a container can have a user namespace in which every id is
// the host's. One with NET_ADMIN gets it: over the host's user namespace it could make
// interfaces in the network namespace at the other end of its own interface, which is
// the host's, and upon the host's interfaces (IFLA_TARGET_NETNSID and IFLA_LINK_NETNSID
// of rtnetlink(7)): a way into every other network and past every rule. Who shares
// namespaces of the host, and who has capabilities that mean nothing in a user
// namespace, goes without; so does who says --userns host.
func (s *Service) mayStandApart(hc *ctypes.HostConfig) bool {
	return oci.OnlyOverItself(hc) && !hc.NetworkMode.IsHost() && !hc.PidMode.IsHost() && !hc.IpcMode.IsHost() && !hc.UTSMode.IsHost() &&
		s.runtimeOf(hc.Runtime) == ""
}

// sharedWith names the containers whose namespaces a container joins.
func sharedWith(hc *ctypes.HostConfig) (refs []string) {
	if hc.NetworkMode.IsContainer() {
		refs = append(refs, hc.NetworkMode.ConnectedContainer())
	}
	if hc.PidMode.IsContainer() {
		refs = append(refs, hc.PidMode.Container())
	}
	if hc.IpcMode.IsContainer() {
		refs = append(refs, hc.IpcMode.Container())
	}
	return refs
}

// joinApart opens the user namespace of those whose namespaces the container joins, if
// they have one, and gives it their ids: root of the host's user namespace, which has made
// theirs, would have every capability over what is theirs, also one that was given none
// (user_namespaces(7)).
func (n *starting) joinApart() error {
	mode, err := userns.ParseMode(string(n.rec.HostConfig.UsernsMode))
	refs := sharedWith(n.rec.HostConfig)
	if err != nil || mode.Host || len(refs) == 0 || !n.s.mayStandApart(n.rec.HostConfig) {
		return nil
	}
	pid, task, ids := 0, runtime.Task(nil), (*userns.Map)(nil)
	for _, ref := range refs {
		c, err := n.s.find(ref)
		if err != nil {
			return err
		}
		c.mu.Lock()
		alive, theirs := c.st.alive(), c.st.Userns
		pid, task = c.st.Pid, c.task
		c.mu.Unlock()
		if !alive || task == nil || theirs == nil || ids != nil && !reflect.DeepEqual(ids, theirs) {
			return nil
		}
		ids = theirs
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return fmt.Errorf("join the user namespace of container %s: %w", refs[len(refs)-1], err)
	}
	// It may have ended before it was opened, and its number be somebody else's.
	if pids, err := task.Pids(context.Background()); err != nil || !slices.Contains(pids, pid) {
		f.Close()
		return conflict("cannot join the user namespace of container %s: it has ended", refs[len(refs)-1])
	}
	n.ids, n.userns, n.ownUser = ids, f, true
	return nil
}

// ids gives the ids that the run which is on has, or the last had; nil: the host's.
// On disk, below the layer and the volumes, files have the ids seen inside; what is
// looked at through a running container's own mounts has those of the host.
func (c *entry) ids() *userns.Map {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.st.Userns
}

// openUser opens the user namespace of the run.
func (n *starting) openUser(context.Context) (err error) {
	if n.ids = n.s.idsOf(&n.rec); n.ids == nil {
		return n.joinApart()
	}
	switch {
	case n.ids.IsSame():
		if n.userns, err = n.s.apart.open(n.ids); err != nil {
			err = fmt.Errorf("NET_ADMIN without the host's interfaces: %w (hint: --userns host gives the container power over them)", err)
		}
		return err
	case n.rec.Userns == nil:
		n.userns, err = n.s.remapped.open(n.ids)
		return err
	}
	n.ownUser = true
	n.userns, err = userns.New(n.ids)
	return err
}

// closeUser closes what is the run's own.
func (n *starting) closeUser() {
	if n.userns != nil && n.ownUser {
		n.userns.Close()
	}
}

// ownFile gives a file of ours to the container's root.
func (n *starting) ownFile(name string) error {
	if n.ids == nil {
		return nil
	}
	uid, _ := n.ids.HostUID(0)
	gid, _ := n.ids.HostGID(0)
	if err := os.Chown(name, int(uid), int(gid)); err != nil {
		return fmt.Errorf("give the container its files: %w", err)
	}
	return nil
}

// mapMounts lets the binds of a container with ids of its own show those on disk as
// the container's: what root wrote is root's inside.
func (n *starting) mapMounts(mounts []specs.Mount) {
	if n.ids == nil {
		return
	}
	own := []string{n.files.hosts, n.files.hostname, n.files.resolvConf}
	for i := range mounts {
		m := &mounts[i]
		if slices.Contains(own, m.Source) || m.Type != "bind" && m.Type != "overlay" {
			continue
		}
		word := "idmap"
		if slices.Contains(m.Options, "rbind") {
			word = "ridmap"
		}
		m.Options = append(slices.Clone(m.Options), word)
	}
}

// sameUser refuses to share processes with a container of other ids: the kernel
// would show them, but not let this one's /proc be mounted.
func (n *starting) sameUser(other *entry) error {
	if n.ids == nil {
		return nil
	}
	theirs := other.ids()
	if theirs == nil || !slices.Equal(theirs.UIDs, n.ids.UIDs) || !slices.Equal(theirs.GIDs, n.ids.GIDs) {
		return conflict("cannot join PID of container %s: it is in another user namespace (hint: give both the same --userns)", other.id)
	}
	return nil
}
