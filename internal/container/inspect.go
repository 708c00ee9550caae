package container

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	mnet "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"muelle/internal/container/mountpoint"
	"muelle/internal/oci"
)

// storageDriver is what inspect shows.
const storageDriver = "overlayfs"

// Inspect gives everything there is to say about a container.
func (s *Service) Inspect(ctx context.Context, ref string, size bool) (*ctypes.InspectResponse, error) {
	c, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	rec, st, apiState, lower := c.rec, c.st, c.apiState(), c.lower
	var execs []string
	for xid, x := range c.execs {
		if x.running() {
			execs = append(execs, xid)
		}
	}
	c.mu.Unlock()
	slices.Sort(execs)
	f := s.filesOf(&rec, c)
	r := &ctypes.InspectResponse{
		ID: rec.ID, Created: rec.Created.Format(time.RFC3339Nano), Path: rec.Path, Args: nonNil(rec.Args), State: apiState,
		Image: rec.Image.ID.String(), LogPath: rec.logPath(st.Started), Name: "/" + rec.Name, RestartCount: st.RestartCount,
		Driver: storageDriver, Platform: platformName(rec.Platform), ExecIDs: execs,
		HostConfig: rec.HostConfig, Config: rec.Config, Mounts: mountPoints(rec.Mounts),
		GraphDriver: &storage.DriverData{Name: storageDriver, Data: map[string]string{
			"LowerDir": strings.Join(lower, ":"), "UpperDir": c.upper(), "WorkDir": c.work(),
		}},
		Storage:         &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: storageDriver}}},
		NetworkSettings: s.networkSettings(&rec, &st, apiState.Pid),
		ProcessLabel:    rec.ProcessLabel,
		MountLabel:      rec.MountLabel,
		AppArmorProfile: oci.AppArmorProfile(oci.Options{HostConfig: rec.HostConfig, Modules: s.o.Security.Modules, AppArmor: s.o.Security.AppArmor}),
	}
	if st.alive() {
		r.HostsPath, r.HostnamePath, r.ResolvConfPath = f.hosts, f.hostname, f.resolvConf
	}
	if len(rec.HostConfig.Links) > 0 {
		hc := *rec.HostConfig
		hc.Links = s.shownLinks(&rec)
		r.HostConfig = &hc
	}
	if rec.Image.Manifest.Digest != "" {
		r.ImageManifestDescriptor = &rec.Image.Manifest
	}
	if size {
		rw, err := c.sizeRw(ctx)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		all := rw + rec.Image.Size
		r.SizeRw, r.SizeRootFs = &rw, &all
	}
	return r, nil
}

func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// filesOf gives the files that a container uses, its own or another's.
func (s *Service) filesOf(rec *record, c *entry) files {
	if rec.HostConfig.NetworkMode.IsContainer() {
		if other, err := s.find(rec.HostConfig.NetworkMode.ConnectedContainer()); err == nil {
			return other.files()
		}
	}
	return c.files()
}

func (s *Service) networkSettings(rec *record, st *state, pid int) *ctypes.NetworkSettings {
	n := &ctypes.NetworkSettings{Ports: mnet.PortMap{}, Networks: s.networksOf(rec, st)}
	if st.Ports != nil {
		n.Ports = maps.Clone(st.Ports)
	}
	if pid != 0 && !rec.HostConfig.NetworkMode.IsContainer() {
		n.SandboxID, n.SandboxKey = rec.ID, filepath.Join("/proc", itoa(pid), "ns/net")
	}
	return n
}

// networksOf gives the endpoints: those of the run, or what the next will have.
func (s *Service) networksOf(rec *record, st *state) endpointMap {
	out := endpointMap{}
	for name, e := range rec.Endpoints {
		e = e.Copy()
		if n, err := s.o.Networks.Get(name); err == nil {
			e.NetworkID = n.ID
		}
		out[name] = e
	}
	for name, e := range st.Endpoints {
		out[name] = e.Copy()
	}
	return out
}

func mountPoints(mounts []mountpoint.Mount) []ctypes.MountPoint {
	out := make([]ctypes.MountPoint, 0, len(mounts))
	for _, m := range mounts {
		p := ctypes.MountPoint{
			Type: m.Type, Name: m.Name, Source: m.Source, Destination: m.Destination, Driver: m.Driver,
			Mode: m.Mode, RW: m.RW, Propagation: m.Propagation,
		}
		if m.Type == mount.TypeVolume && p.Mode == "" {
			p.Mode = "z"
		}
		out = append(out, p)
	}
	return out
}

// sizeRw is what the writable layer occupies on disk.
func (c *entry) sizeRw(ctx context.Context) (int64, error) {
	if c.layers != c.dir {
		return 0, nil // counted where it is
	}
	var size int64
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	err := filepath.WalkDir(c.upper(), func(_ string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return errIgnored(err, func(err error) bool { return errors.Is(err, fs.ErrNotExist) })
		}
		if d.IsDir() {
			return nil // what Docker counts: an untouched container has none
		}
		info, err := d.Info()
		if err != nil {
			return errIgnored(err, func(err error) bool { return errors.Is(err, fs.ErrNotExist) })
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || st.Nlink > 1 && seen[inode{st.Dev, st.Ino}] {
			return nil
		}
		seen[inode{st.Dev, st.Ino}] = true
		size += st.Blocks * 512
		return nil
	})
	return size, err
}
