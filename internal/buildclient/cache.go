package buildclient

import (
	"context"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/build"

	"muelle/client"
)

// DiskUsage lists the records of the build cache that pass BuildKit's filters
// ("type==exec.cachemount").
func DiskUsage(ctx context.Context, api *client.Client, filters []string) ([]build.CacheRecord, error) {
	c, err := connect(ctx, api)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	records, err := c.DiskUsage(ctx, bkclient.WithFilter(filters))
	if err != nil {
		return nil, c.failure(ctx, err)
	}
	out := make([]build.CacheRecord, 0, len(records))
	for _, r := range records {
		out = append(out, build.CacheRecord{
			ID: r.ID, Parents: r.Parents, Type: string(r.RecordType), Description: r.Description,
			InUse: r.InUse, Shared: r.Shared, Size: r.Size, CreatedAt: r.CreatedAt,
			LastUsedAt: r.LastUsedAt, UsageCount: r.UsageCount,
		})
	}
	return out, nil
}

// Worker is the one builder that a daemon has.
type Worker struct {
	ID        string
	Version   string // of BuildKit
	Platforms []string
}

// Workers describes the daemon's builder.
func Workers(ctx context.Context, api *client.Client) ([]Worker, error) {
	c, err := connect(ctx, api)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	list, err := c.ListWorkers(ctx)
	if err != nil {
		return nil, c.failure(ctx, err)
	}
	var out []Worker
	for _, w := range list {
		worker := Worker{ID: w.ID, Version: w.BuildkitVersion.Version}
		for _, p := range w.Platforms {
			worker.Platforms = append(worker.Platforms, platform(p.OS, p.Architecture, p.Variant))
		}
		out = append(out, worker)
	}
	return out, nil
}

func platform(os, arch, variant string) string {
	if variant != "" {
		return os + "/" + arch + "/" + variant
	}
	return os + "/" + arch
}
