package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/container/mountpoint"
	"muelle/internal/image"
	"muelle/internal/linux/mountattr"
)

// specMounts gives the container's own mounts for the document.
func specMounts(mounts []mountpoint.Mount, images map[string][]string, f files) []specs.Mount {
	out := make([]specs.Mount, 0, len(mounts)+3)
	taken := map[string]bool{}
	for _, m := range mounts {
		taken[m.Destination] = true
		out = append(out, specMount(m, images[m.Destination]))
	}
	for _, own := range []struct{ dest, source string }{
		{"/etc/hosts", f.hosts}, {"/etc/hostname", f.hostname}, {"/etc/resolv.conf", f.resolvConf},
	} {
		if !taken[own.dest] && own.source != "" {
			out = append(out, specs.Mount{Destination: own.dest, Type: "bind", Source: own.source, Options: []string{"bind", "rprivate"}})
		}
	}
	return out
}

func specMount(m mountpoint.Mount, layers []string) specs.Mount {
	if m.Type == mount.TypeTmpfs {
		return specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "tmpfs", Options: m.TmpfsOptions}
	}
	if m.Type == mount.TypeImage {
		return imageMount(m, layers)
	}
	options := []string{"rbind"}
	if m.NonRecursive {
		options[0] = "bind"
	}
	if !m.RW {
		options = append(options, "ro")
		// As Docker since 25: what is mounted below the source is read-only too, where
		// the kernel can do that.
		if !m.ReadOnlyNonRecursive && (m.ReadOnlyForceRecursive || mountattr.Supported()) {
			options = append(options, "rro")
		}
	}
	propagation := m.Propagation
	if propagation == "" {
		propagation = mount.PropagationRPrivate
	}
	return specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Source, Options: append(options, string(propagation))}
}

// imageMount shows an image's layers, read-only as Docker's, and without the power
// that set-user-id programs and devices of a foreign image would have.
func imageMount(m mountpoint.Mount, layers []string) specs.Mount {
	out := specs.Mount{Destination: m.Destination, Type: "bind", Options: []string{"bind", "ro", "rprivate"}}
	if len(layers) == 1 { // an overlay takes two at least
		out.Source = layers[0]
		return out
	}
	out.Type, out.Source = "overlay", "overlay"
	out.Options = []string{"ro", "rprivate", "lowerdir=" + strings.Join(layers, ":")}
	return out
}

// findImages looks up the images that are to be mounted. They are not pulled here:
// the client does that, as with the container's own.
func (s *Service) findImages(ctx context.Context, mounts []mountpoint.Mount) error {
	for i := range mounts {
		m := &mounts[i]
		if m.Type != mount.TypeImage || m.Image != nil {
			continue
		}
		img, err := s.o.Images.Get(ctx, m.Name)
		if err != nil {
			return err
		}
		m.Image = &mountpoint.Image{ID: img.ID, Manifest: img.Manifest, ChainID: img.ChainID}
		m.Source = img.ID.String()
	}
	return nil
}

// mountedLayers gives the layers of the mounted images by destination, and keeps them
// until the container's own image is released.
func (s *Service) mountedLayers(ctx context.Context, cid string, mounts []mountpoint.Mount) (map[string][]string, error) {
	var layers map[string][]string
	for _, m := range mounts {
		if m.Type != mount.TypeImage || m.Image == nil {
			continue
		}
		dirs, err := s.o.Images.Lower(ctx, &image.Image{ID: m.Image.ID, Manifest: m.Image.Manifest, ChainID: m.Image.ChainID}, cid)
		if err != nil {
			return nil, fmt.Errorf("find the layers of image %s: %w", m.Name, err)
		}
		if layers == nil {
			layers = map[string][]string{}
		}
		layers[m.Destination] = dirs
	}
	return layers, nil
}

func (s *Service) holdMountedImages(ctx context.Context, c *entry, mounts []mountpoint.Mount) error {
	_, err := s.mountedLayers(ctx, c.id, mounts)
	return err
}

// subpaths gives the parts of volumes and images that are mounted, by destination.
func subpaths(mounts []mountpoint.Mount) map[string]string {
	var parts map[string]string
	for _, m := range mounts {
		if m.Subpath == "" {
			continue
		}
		if parts == nil {
			parts = map[string]string{}
		}
		parts[m.Destination] = m.Subpath
	}
	return parts
}

// prepareMounts sees to it that the sources of all mounts are there. What it mounted
// before it failed it unmounts.
func (n *starting) prepareMounts(ctx context.Context) (err error) {
	if err := n.checkBinds(); err != nil {
		return err
	}
	if n.images, err = n.s.mountedLayers(ctx, n.c.id, n.rec.Mounts); err != nil {
		return err
	}
	return n.s.mountVolumes(ctx, n.c.id, n.rec.Mounts)
}

// checkBinds makes missing sources of -v and refuses others that are missing, or that
// cannot be shared as they should.
func (n *starting) checkBinds() error {
	for _, m := range n.rec.Mounts {
		if m.Type != mount.TypeBind {
			continue
		}
		_, err := os.Stat(m.Source)
		if errors.Is(err, os.ErrNotExist) && m.CreateSource {
			err = os.MkdirAll(m.Source, 0o755)
		}
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return invalid("invalid mount config for type \"bind\": bind source path does not exist: %s", m.Source)
			}
			return fmt.Errorf("error while creating mount source path '%s': %w", m.Source, err)
		}
		if err := checkPropagation(m); err != nil {
			return err
		}
	}
	return nil
}

// checkPropagation: a mount takes part in another's propagation only where that is
// shared on the host; the kernel would say nothing.
func checkPropagation(m mountpoint.Mount) error {
	shared := m.Propagation == mount.PropagationShared || m.Propagation == mount.PropagationRShared
	slave := m.Propagation == mount.PropagationSlave || m.Propagation == mount.PropagationRSlave
	if !shared && !slave {
		return nil
	}
	on, err := mountinfo.GetMounts(mountinfo.ParentsFilter(m.Source))
	if err != nil {
		return fmt.Errorf("find the mount of %s: %w", m.Source, err)
	}
	var at *mountinfo.Info
	for _, i := range on {
		if at == nil || len(i.Mountpoint) >= len(at.Mountpoint) { // the last one lies on top
			at = i
		}
	}
	if at == nil {
		return fmt.Errorf("find the mount of %s: none", m.Source)
	}
	isShared, isSlave := strings.Contains(at.Optional, "shared:"), strings.Contains(at.Optional, "master:")
	switch {
	case shared && !isShared:
		return invalid("path %s is mounted on %s but it is not a shared mount: mount --make-shared %s", m.Source, at.Mountpoint, at.Mountpoint)
	case slave && !isShared && !isSlave:
		return invalid("path %s is mounted on %s but it is not a shared or slave mount: mount --make-shared %s", m.Source, at.Mountpoint, at.Mountpoint)
	}
	return nil
}

// mountVolumes makes the content of every volume present; on error of none.
func (s *Service) mountVolumes(ctx context.Context, cid string, mounts []mountpoint.Mount) error {
	for _, m := range mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		err := s.o.Volumes.Mount(ctx, m.Name, cid)
		if err == nil {
			continue
		}
		s.unmountVolumes(cid, mounts)
		if errdefs.IsNotFound(err) {
			// It would be taken for the container.
			return fmt.Errorf("volume %s is gone: %s", m.Name, err)
		}
		return err
	}
	return nil
}

func (s *Service) unmountVolumes(cid string, mounts []mountpoint.Mount) {
	for _, m := range mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		if err := s.o.Volumes.Unmount(m.Name, cid); err != nil {
			s.log.Error("unmount volume", "container", cid, "volume", m.Name, "err", err)
		}
	}
}
