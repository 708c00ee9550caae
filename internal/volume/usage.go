package volume

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"
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

// diskUsage sums the blocks below path as du does, hard links once.
func diskUsage(path string) (int64, error) {
	var total int64
	type inode struct{ dev, ino uint64 }
	seen := map[inode]bool{}
	err := filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return nil // vanished meanwhile
		}
		if key := (inode{st.Dev, st.Ino}); st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			if seen[key] {
				return nil
			}
			seen[key] = true
		}
		total += st.Blocks * 512
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure %s: %w", path, err)
	}
	return total, nil
}
