package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// removeLeftovers ends and removes the running steps of a daemon that died. Builds
// are the one thing that does not survive their daemon.
func removeLeftovers(ctx context.Context, o Options) error {
	entries, err := os.ReadDir(o.ExecRoot)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, removeStep(ctx, o, e.Name()))
	}
	errs = append(errs, unmountTemporary(o))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(emptyTemp(o.Temp), os.Remove(o.ExecRoot))
}

// removeStep removes everything of one step, by its id.
func removeStep(ctx context.Context, o Options, id string) error {
	dir := filepath.Join(o.ExecRoot, id)
	errs := []error{o.Runtime.Clean(ctx, id, filepath.Join(dir, "run"), cgroupsPath(o.CgroupParent, id))}
	if err := o.Networks.Release(ctx, id); err != nil && !errdefs.IsNotFound(err) {
		errs = append(errs, err)
	}
	err := mount.UnmountAll(filepath.Join(dir, "rootfs"), unix.MNT_DETACH)
	if err == nil { // never what is mounted
		err = os.RemoveAll(dir)
	}
	return errors.Join(append(errs, err)...)
}

// unmountTemporary removes the mounts that BuildKit makes below its own folder and
// the temporary one: of layers for COPY, of secrets for RUN, of mounts that steps
// share. In a temporary folder of everybody only those of this store are ours.
func unmountTemporary(o Options) error {
	own := []string{o.Root + "/"}
	if o.Temp != "" {
		own = append(own, o.Temp+"/")
	}
	shared := filepath.Join(os.TempDir(), "buildkit-mount")
	layers := o.Store.Root() + "/"
	found, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		if slices.ContainsFunc(own, func(dir string) bool { return strings.HasPrefix(i.Mountpoint, dir) }) {
			return false, false
		}
		ofStore := strings.Contains(i.VFSOptions, layers) || strings.HasPrefix(i.Root, layers)
		return !ofStore || !strings.HasPrefix(i.Mountpoint, shared), false
	})
	if err != nil {
		return err
	}
	var errs []error
	for i := len(found) - 1; i >= 0; i-- {
		errs = append(errs, mount.UnmountAll(found[i].Mountpoint, unix.MNT_DETACH))
	}
	return errors.Join(errs...)
}

// emptyTemp removes what was left in the daemon's own temporary folder, once
// nothing is mounted there any more.
func emptyTemp(dir string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}
