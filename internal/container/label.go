package container

import (
	"fmt"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"

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

// relabel marks the files of binds and volumes with z as shared among containers, with
// Z as this one's, as Docker does.
func (n *starting) relabel() error {
	if n.rec.MountLabel == "" {
		return nil
	}
	for _, m := range n.rec.Mounts {
		if m.Type != mount.TypeBind && m.Type != mount.TypeVolume {
			continue
		}
		for mode := range strings.SplitSeq(m.Mode, ",") {
			if mode != "z" && mode != "Z" {
				continue
			}
			if err := label.Relabel(m.Source, n.rec.MountLabel, mode == "z"); err != nil {
				return fmt.Errorf("error setting label on mount source '%s': %w", m.Source, err)
			}
		}
	}
	return nil
}
