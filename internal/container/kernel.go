package container

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"

	"muelle/api"
	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/procfs"
)

// Kernel reads what the kernel says of a running container. A container that ends
// meanwhile is a conflict, as one that does not run.
func (s *Service) Kernel(ctx context.Context, ref string) (*api.Kernel, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	task, rec := c.task, c.rec
	alive := c.st.alive() && task != nil
	c.mu.Unlock()
	if !alive || task.Pid() == 0 {
		return nil, conflict("container %s is not running: the kernel knows nothing of it", ref)
	}
	k := &api.Kernel{ID: rec.ID, Name: rec.Name, Pid: task.Pid()}
	if err := s.readKernel(ctx, k, &rec, task.NetNS); err != nil {
		if task.Pid() == 0 {
			return nil, conflict("container %s has just ended", ref)
		}
		return nil, fmt.Errorf("inspect container %s in the kernel: %w", rec.Name, err)
	}
	return k, nil
}

func (s *Service) readKernel(ctx context.Context, k *api.Kernel, rec *record, netns func(context.Context) (*os.File, error)) error {
	var err error
	if k.Namespaces, err = s.namespaces(k.ID, k.Pid); err != nil {
		return err
	}
	if err := readProcess(k); err != nil {
		return err
	}
	groups, err := cgroup.Memberships(k.Pid)
	if err != nil {
		return err
	}
	for _, g := range groups {
		m := api.KernelCgroup{Version: g.Version, Controllers: g.Controllers, Path: g.Path}
		for _, f := range g.Files {
			m.Files = append(m.Files, api.KernelFile(f))
		}
		k.Cgroups = append(k.Cgroups, m)
	}
	if err := readMounts(k); err != nil {
		return err
	}
	if slices.ContainsFunc(k.Namespaces, func(n api.KernelNamespace) bool { return n.Type == "net" && n.Host }) {
		return nil
	}
	ns, err := netns(ctx)
	if err != nil {
		return err
	}
	defer ns.Close()
	owner := rec.ID
	if mode := rec.HostConfig.NetworkMode; mode.IsContainer() {
		if owner, err = s.ID(mode.ConnectedContainer()); err != nil {
			return err
		}
	}
	k.Network, err = s.o.Networks.Kernel(ctx, owner, ns)
	return err
}

// namespaces compares a process's with the engine's and with other containers'.
func (s *Service) namespaces(id string, pid int) ([]api.KernelNamespace, error) {
	own, err := procfs.Namespaces(0)
	if err != nil {
		return nil, err
	}
	list, err := procfs.Namespaces(pid)
	if err != nil {
		return nil, err
	}
	sharing := s.sharing(id)
	var out []api.KernelNamespace
	for _, n := range list {
		v := api.KernelNamespace{Type: n.Type, Inode: n.Inode, Host: slices.Contains(own, n)}
		if !v.Host {
			v.SharedWith = sharing[n]
		}
		out = append(out, v)
	}
	return out, nil
}

// sharing tells which other containers are in which namespaces.
func (s *Service) sharing(id string) map[procfs.Namespace][]string {
	s.mu.RLock()
	entries := make([]*entry, 0, len(s.byID))
	for _, c := range s.byID {
		entries = append(entries, c)
	}
	s.mu.RUnlock()
	m := map[procfs.Namespace][]string{}
	for _, c := range entries {
		c.mu.Lock()
		name, pid := c.rec.Name, 0
		if c.task != nil {
			pid = c.task.Pid()
		}
		c.mu.Unlock()
		if pid == 0 || c.id == id {
			continue
		}
		list, err := procfs.Namespaces(pid)
		if err != nil {
			continue // it has just ended
		}
		for _, n := range list {
			m[n] = append(m[n], name)
		}
	}
	for _, names := range m {
		slices.Sort(names)
	}
	return m
}

func readProcess(k *api.Kernel) error {
	st, err := procfs.ReadStatus(k.Pid)
	if err != nil {
		return err
	}
	k.Shim = st.Parent
	p := &k.Process
	p.UIDs, p.GIDs, p.Groups = st.UIDs, st.GIDs, st.Groups
	p.Inheritable, p.Permitted, p.Effective, p.Bounding, p.Ambient = st.Inheritable, st.Permitted, st.Effective, st.Bounding, st.Ambient
	p.NoNewPrivileges, p.Seccomp, p.SeccompFilters = st.NoNewPrivileges, st.Seccomp, st.SeccompFilters
	if p.Command, err = procfs.Command(k.Pid); err != nil {
		return err
	}
	if p.UIDMap, err = procfs.Lines(k.Pid, "uid_map"); err != nil {
		return err
	}
	if p.GIDMap, err = procfs.Lines(k.Pid, "gid_map"); err != nil {
		return err
	}
	if p.Label, err = procfs.Label(k.Pid); err != nil {
		return err
	}
	adj, err := procfs.Lines(k.Pid, "oom_score_adj")
	if err != nil {
		return err
	}
	if len(adj) > 0 {
		if p.OOMScoreAdj, err = strconv.Atoi(adj[0]); err != nil {
			return fmt.Errorf("read oom_score_adj: %w", err)
		}
	}
	limits, err := procfs.Limits(k.Pid)
	for _, l := range limits {
		p.Limits = append(p.Limits, api.KernelLimit(l))
	}
	return err
}

func readMounts(k *api.Kernel) error {
	mounts, err := procfs.Mounts(k.Pid)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		v := api.KernelMount{
			ID: m.ID, Parent: m.Parent, Target: m.Mountpoint, Source: m.Source, Type: m.FSType, Root: m.Root,
			Options: m.Options, FSOptions: m.VFSOptions, Propagation: m.Optional,
		}
		if v.Propagation == "" {
			v.Propagation = "private"
		}
		k.Mounts = append(k.Mounts, v)
	}
	return nil
}
