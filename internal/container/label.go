package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
	"golang.org/x/sys/unix"

	"muelle/internal/oci"
)

// labels gives a container its labels where SELinux is in use: those that it asks for,
// another container's whose processes or memory it shares, or none where it shares the
// host's.
func (s *Service) labels(rec *record) error {
	if !s.o.Security.Modules.SELinux {
		return nil
	}
	security, err := oci.ParseSecurityOpt(rec.HostConfig.SecurityOpt, s.o.Security.Modules)
	if err != nil {
		return err
	}
	options := security.Labels
	if len(options) == 0 {
		if options, err = s.inheritedLabels(rec.HostConfig); err != nil {
			return err
		}
	}
	if rec.ProcessLabel, rec.MountLabel, err = label.InitLabels(options); err != nil {
		return invalid("%s", err)
	}
	for _, l := range []string{rec.ProcessLabel, rec.MountLabel} {
		if l == "" {
			continue
		}
		if err := selinux.SecurityCheckContext(l); err != nil {
			selinux.ReleaseLabel(rec.ProcessLabel)
			return invalid("the policy of SELinux on this host does not know the label %s", l)
		}
	}
	return nil
}

func (s *Service) inheritedLabels(hc *ctypes.HostConfig) ([]string, error) {
	if hc.Privileged || hc.PidMode.IsHost() || hc.IpcMode.IsHost() {
		return []string{"disable"}, nil
	}
	for _, ref := range []string{hc.PidMode.Container(), hc.IpcMode.Container()} {
		if ref == "" {
			continue
		}
		other, err := s.find(ref)
		if err != nil {
			return nil, err
		}
		rec, _ := other.snapshot()
		options, err := selinux.DupSecOpt(rec.ProcessLabel)
		if err != nil {
			return nil, fmt.Errorf("read the label of container %s: %w", other.id, err)
		}
		return options, nil
	}
	return nil, nil
}

// releaseLabels lets another container have the categories of a removed one.
func (s *Service) releaseLabels(rec *record) {
	if rec.ProcessLabel != "" {
		selinux.ReleaseLabel(rec.ProcessLabel)
	}
}

// relabel lets SELinux admit the container to what it is given of the host's: to its
// /etc/hosts and the like, to binds and volumes with z as shared among containers and
// with Z as this one's, as Docker does, and to every volume that says neither.
func (n *starting) relabel(context.Context) error {
	own := n.rec.MountLabel
	if own == "" {
		return nil
	}
	// Files of another container's network are both containers'.
	for _, name := range []string{n.files.hosts, n.files.hostname, n.files.resolvConf} {
		if err := relabelSource(name, own, n.sandbox == nil); err != nil {
			return err
		}
	}
	if err := n.labelImages(); err != nil {
		return err
	}
	for _, m := range n.rec.Mounts {
		modes := strings.Split(m.Mode, ",")
		switch shared := slices.Contains(modes, "z"); {
		case m.Type != mount.TypeBind && m.Type != mount.TypeVolume:
		case shared || slices.Contains(modes, "Z"):
			if err := relabelSource(m.Source, own, shared); err != nil {
				return err
			}
		case m.Type == mount.TypeVolume:
			if err := shareVolume(m.Source, own); err != nil {
				return err
			}
		}
	}
	return nil
}

// labelLayer lets the container execute what it writes: the kernel asks for the label
// of the layer's own file where it maps one anew, and that inherits its folder's.
func (c *entry) labelLayer() error {
	if c.rec.MountLabel == "" {
		return nil
	}
	for _, dir := range []string{c.upper(), c.work()} {
		if err := label.SetFileLabel(dir, c.rec.MountLabel); err != nil {
			return fmt.Errorf("label container's layer: %w", err)
		}
	}
	return nil
}

// labelImages has mounted images shown by an overlay, which gives them the container's
// label: the layer of one that has no other would be bound, with the host's label.
func (n *starting) labelImages() error {
	for at, layers := range n.images {
		if len(layers) != 1 {
			continue
		}
		if err := os.Mkdir(n.c.emptyLayer(), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make container's layer: %w", err)
		}
		n.images[at] = []string{layers[0], n.c.emptyLayer()}
	}
	return nil
}

// relabelSource labels a path and all below it. A file system that holds no labels, as
// a server's, is left as it is: there the policy decides by the kind of file system.
func relabelSource(source, own string, shared bool) error {
	if err := label.Relabel(source, own, shared); err != nil && !errors.Is(err, unix.ENOTSUP) {
		return fmt.Errorf("error setting label on mount source '%s': %w", source, err)
	}
	return nil
}

// shareVolume labels a volume once, as long as nobody labelled it otherwise: its root
// gets the label last, and only a volume that containers are not admitted to is looked
// through.
func shareVolume(source, own string) error {
	want, err := selinux.NewContext(own)
	if err != nil {
		return fmt.Errorf("read label %q: %w", own, err)
	}
	has, err := selinux.FileLabel(source)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the label of '%s': %w", source, err)
	}
	if now, err := selinux.NewContext(has); err == nil && now["type"] == want["type"] {
		return nil
	}
	return relabelSource(source, own, true)
}
