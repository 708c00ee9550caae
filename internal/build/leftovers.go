package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
		dir := filepath.Join(o.ExecRoot, e.Name())
		errs = append(errs, o.Runtime.Clean(ctx, e.Name(), filepath.Join(dir, "run"), cgroupsPath(o.CgroupParent, e.Name())))
		if err := o.Networks.Release(ctx, e.Name()); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
		errs = append(errs, mount.UnmountAll(filepath.Join(dir, "rootfs"), unix.MNT_DETACH), os.RemoveAll(dir))
	}
	errs = append(errs, unmountTemporary(o))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.Remove(o.ExecRoot)
}

// unmountTemporary removes the mounts that BuildKit makes of this store's layers:
// below the temporary folder for COPY, below its own for mounts that steps share.
func unmountTemporary(o Options) error {
	temporary := filepath.Join(os.TempDir(), "buildkit-mount")
	layers, own := o.Store.Root()+"/", o.Root+"/"
	found, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) {
		ofStore := strings.Contains(i.VFSOptions, layers) || strings.HasPrefix(i.Root, layers)
		return !strings.HasPrefix(i.Mountpoint, own) && !(ofStore && strings.HasPrefix(i.Mountpoint, temporary)), false
	})
	if err != nil {
		return err
	}
	var errs []error
	for i := len(found) - 1; i >= 0; i-- {
		errs = append(errs, mount.UnmountAll(found[i].Mountpoint, unix.MNT_DETACH), os.Remove(found[i].Mountpoint))
	}
	return errors.Join(errs...)
}
