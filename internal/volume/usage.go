package volume

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/moby/api/types/volume"

	"muelle/internal/linux/du"
)

// Usage gives every volume with the bytes it occupies and how many hold it.
func (s *Service) Usage(ctx context.Context) ([]volume.Volume, error) {
	list, err := s.List(ctx, nil)
	if err != nil {
		return nil, err
	}
	for i := range list {
		v := &list[i]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		refs := int64(len(s.Users(v.Name)))
		if len(v.Options) > 0 {
			// What is mounted lies elsewhere, and may be a server's that does not answer.
			v.UsageData = &volume.UsageData{Size: -1, RefCount: refs}
			continue
		}
		size, err := diskUsage(v.Mountpoint)
		if err != nil {
			return nil, err
		}
		v.UsageData = &volume.UsageData{Size: size, RefCount: refs}
	}
	return list, nil
}

// Overhead is what the folder of volumes occupies beside their content: records and
// folders, and what belongs to no volume.
func (s *Service) Overhead(ctx context.Context, c *du.Counter) (records, leftovers int64, err error) {
	if records, err = du.Alone(s.root); err != nil {
		return 0, 0, err
	}
	list, err := os.ReadDir(s.root)
	if err != nil {
		return 0, 0, fmt.Errorf("measure volumes: %w", err)
	}
	for _, e := range list {
		dir := filepath.Join(s.root, e.Name())
		s.mu.Lock()
		r := s.volumes[e.Name()]
		s.mu.Unlock()
		if r == nil {
			size, err := c.Tree(ctx, dir)
			if err != nil {
				return 0, 0, err
			}
			leftovers += size.Total()
			continue
		}
		own, err := s.overheadOf(ctx, c, dir, len(r.Options) > 0)
		if err != nil {
			return 0, 0, err
		}
		records += own
	}
	return records, leftovers, nil
}

// overheadOf leaves out the content, which Usage has; of a volume with options that
// is elsewhere.
func (s *Service) overheadOf(ctx context.Context, c *du.Counter, dir string, elsewhere bool) (total int64, err error) {
	if total, err = du.Alone(dir); err != nil {
		return 0, err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return total, nil // removed meanwhile
	}
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		if e.Name() == dataFolder {
			if mounted, err := isMountPoint(path); err != nil || mounted || !elsewhere {
				continue
			}
		}
		size, err := c.Tree(ctx, path)
		if err != nil {
			return 0, err
		}
		total += size.Total()
	}
	return total, nil
}

// diskUsage sums the blocks below path as du does, hard links once.
func diskUsage(path string) (int64, error) {
	size, err := du.New().Tree(context.Background(), path)
	return size.Total(), err
}
