package container

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"muelle/internal/linux/du"
)

// Usage is what the folder of containers occupies on disk, in bytes.
type Usage struct {
	// Total is everything; Logs are the containers' logs, compressed ones too;
	// Leftovers are folders that belong to no container.
	Total, Logs, Leftovers int64
}

// Usage measures data-root/containers.
func (s *Service) Usage(ctx context.Context, c *du.Counter) (Usage, error) {
	var u Usage
	list, err := os.ReadDir(s.o.Root)
	if err != nil {
		return u, fmt.Errorf("measure containers: %w", err)
	}
	if u.Total, err = du.Alone(s.o.Root); err != nil {
		return u, err
	}
	for _, e := range list {
		dir := filepath.Join(s.o.Root, e.Name())
		size, err := c.Tree(ctx, dir)
		if err != nil {
			return u, err
		}
		u.Total += size.Total()
		s.mu.RLock()
		entry := s.byID[e.Name()]
		s.mu.RUnlock()
		if entry == nil {
			u.Leftovers += size.Total()
			continue
		}
		u.Logs += logUsage(ctx, dir, e.Name()+"-json.log")
	}
	return u, nil
}

// logUsage sums the files of a log: those that begin with its name.
func logUsage(ctx context.Context, dir, name string) (total int64) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return 0 // the container went meanwhile
	}
	for _, e := range list {
		if e.Type().IsRegular() && strings.HasPrefix(e.Name(), name) {
			if size, err := du.Measure(ctx, filepath.Join(dir, e.Name())); err == nil {
				total += size.Total()
			}
		}
	}
	return total
}
