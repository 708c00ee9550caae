package volume

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"muelle/api"
	"muelle/internal/filter"
	"muelle/internal/id"
)

const removedPrefix = ".removed-"

// Remove deletes a volume that nobody holds. With force, one that does not exist is
// no error.
func (s *Service) Remove(_ context.Context, name string, force bool) error {
	trash, err := s.detach(name, force)
	if err != nil || trash == "" {
		return err
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.removing, trash)
	}()
	return removeAll(trash)
}

// detach takes the volume out of sight in one rename, so that a crash while its
// content is deleted leaves no half volume.
func (s *Service) detach(name string, force bool) (trash string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.volumes[name]
	if r == nil {
		if force {
			return "", nil
		}
		return "", notFound(name)
	}
	if users := slices.Sorted(maps.Keys(s.users[name])); len(users) > 0 {
		return "", errdefs.ErrConflict.WithMessage(fmt.Sprintf("remove %s: volume is in use - [%s]", name, strings.Join(users, ", ")))
	}
	// Nothing of what was mounted may be deleted with the folder that it lay on.
	if err := s.unmount(name); err != nil {
		return "", err
	}
	delete(s.mounts, name)
	trash = filepath.Join(s.root, removedPrefix+id.Short(id.New()))
	if err := os.Rename(filepath.Join(s.root, name), trash); err != nil {
		return "", fmt.Errorf("remove volume %s: %w", name, err)
	}
	delete(s.volumes, name)
	s.removing[trash] = true
	s.bus.Publish(events.VolumeEventType, events.ActionDestroy, name, map[string]string{"driver": r.Driver})
	return trash, nil
}

func removeAll(path string) error {
	err := unmountAll(filepath.Join(path, dataFolder))
	if err == nil {
		err = os.RemoveAll(path)
	}
	if err != nil {
		return fmt.Errorf("remove the content of a volume: %w", err)
	}
	return nil
}

// Prune removes volumes that nobody holds: anonymous ones, or with the filter
// all=true every one; filters label, label!.
func (s *Service) Prune(ctx context.Context, f filter.Args) (volume.PruneReport, error) {
	report := volume.PruneReport{VolumesDeleted: []string{}}
	if err := f.Validate("all", "label", "label!"); err != nil {
		return report, err
	}
	all, err := f.Bool("all", false)
	if err != nil {
		return report, err
	}
	dangling, err := s.List(ctx, filter.Args{"dangling": {"true"}})
	if err != nil {
		return report, err
	}
	for _, v := range dangling {
		if _, anonymous := v.Labels[api.LabelAnonymous]; !all && !anonymous || !labelsMatch(f, v.Labels) {
			continue
		}
		var size int64
		if len(v.Options) == 0 {
			size, _ = diskUsage(v.Mountpoint)
		}
		if err := s.Remove(ctx, v.Name, false); err != nil {
			if errdefs.IsConflict(err) || errdefs.IsNotFound(err) {
				continue // taken or removed meanwhile
			}
			return report, err
		}
		report.VolumesDeleted = append(report.VolumesDeleted, v.Name)
		report.SpaceReclaimed += uint64(size)
	}
	s.bus.Publish(events.VolumeEventType, events.ActionPrune, "", map[string]string{"reclaimed": fmt.Sprint(report.SpaceReclaimed)})
	return report, nil
}
