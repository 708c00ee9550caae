package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/system"

	"muelle/api"
	"muelle/internal/linux/du"
)

// Account measures everything below the data-root. Each file is in one row, so that
// the rows add up.
func (s *Service) Account(ctx context.Context) (*api.DiskUsage, error) {
	c := du.New()
	m := &measurement{Service: s, c: c}
	docker, err := m.docker(ctx, nil)
	if err != nil {
		return nil, err
	}
	store, err := m.storeUsage(ctx)
	if err != nil {
		return nil, fmt.Errorf("measure images: %w", err)
	}
	containers, err := s.o.Containers.Usage(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("measure containers: %w", err)
	}
	volumes, leftVolumes, err := s.o.Volumes.Overhead(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("measure volumes: %w", err)
	}
	rest, err := s.restUsage(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("measure data-root: %w", err)
	}
	leftovers := store.Orphans + containers.Leftovers + leftVolumes
	records := max(containers.Total-docker.ContainerUsage.TotalSize-containers.Logs-containers.Leftovers, 0)
	d := &api.DiskUsage{DataRoot: s.o.DataRoot, Rows: append(dockerRows(docker),
		api.DiskUsageRow{Kind: "Logs", Size: containers.Logs, Note: "of containers"},
		api.DiskUsageRow{Kind: "Daemon log", Size: rest.log, Note: "muelled.log"},
		api.DiskUsageRow{Kind: "Unfinished", Size: store.Unfinished + rest.temporary, Note: "downloads and unpacking under way"},
		api.DiskUsageRow{Kind: "Metadata", Size: records + volumes + store.Metadata + rest.records, Note: "records, databases and folders"},
		api.DiskUsageRow{Kind: "Leftovers", Size: leftovers, Reclaimable: leftovers, Note: "owned by nothing: muelle system check --repair"},
		api.DiskUsageRow{Kind: "Other", Size: rest.other, Note: "not made by muelled"},
	)}
	for _, r := range d.Rows {
		d.Total += r.Size
	}
	return d, nil
}

// dockerRows are those that `docker system df` has.
func dockerRows(u *system.DiskUsage) []api.DiskUsageRow {
	i, c, v, b := u.ImageUsage, u.ContainerUsage, u.VolumeUsage, u.BuildCacheUsage
	return []api.DiskUsageRow{
		{Docker: true, Kind: "Images", Count: i.TotalCount, Active: i.ActiveCount, Size: i.TotalSize, Reclaimable: min(i.Reclaimable, i.TotalSize)},
		{Docker: true, Kind: "Containers", Count: c.TotalCount, Active: c.ActiveCount, Size: c.TotalSize, Reclaimable: c.Reclaimable},
		{Docker: true, Kind: "Local Volumes", Count: v.TotalCount, Active: v.ActiveCount, Size: v.TotalSize, Reclaimable: v.Reclaimable},
		{Docker: true, Kind: "Build Cache", Count: b.TotalCount, Active: b.ActiveCount, Size: b.TotalSize, Reclaimable: min(b.Reclaimable, b.TotalSize)},
	}
}

type restUsage struct{ log, temporary, records, other int64 }

// restUsage measures what no service has measured.
func (s *Service) restUsage(ctx context.Context, c *du.Counter) (u restUsage, err error) {
	list, err := os.ReadDir(s.o.DataRoot)
	if err != nil {
		return u, err
	}
	if u.records, err = du.Alone(s.o.DataRoot); err != nil {
		return u, err
	}
	for _, e := range list {
		name := e.Name()
		to := &u.other
		switch {
		case name == "store", name == "containers", name == "volumes":
			continue
		case name == "tmp":
			to = &u.temporary
		case strings.HasPrefix(name, "muelled.log"):
			to = &u.log
		case name == "networks", name == "projects", name == "buildkit", name == "engine-id", name == "docker-init", strings.HasSuffix(name, ".lock"), strings.HasPrefix(name, "muelled"):
			to = &u.records
		}
		size, err := c.Tree(ctx, filepath.Join(s.o.DataRoot, name))
		if err != nil {
			return u, err
		}
		*to += size.Total()
	}
	return u, nil
}
