package build

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"

	"muelle/internal/filter"
)

// DiskUsage lists the build cache, most recently used first; nothing where nothing
// was ever built.
func (s *Service) DiskUsage(ctx context.Context) ([]build.CacheRecord, error) {
	e, done, err := s.opened()
	if err != nil {
		return nil, err
	}
	defer done()
	if e == nil {
		return []build.CacheRecord{}, nil
	}
	usage, err := e.worker.DiskUsage(ctx, client.DiskUsageInfo{})
	if err != nil {
		return nil, fmt.Errorf("read the build cache: %w", err)
	}
	out := make([]build.CacheRecord, 0, len(usage))
	for _, u := range usage {
		out = append(out, build.CacheRecord{
			ID: u.ID, Parents: u.Parents, Type: string(u.RecordType), Description: u.Description,
			InUse: u.InUse, Shared: u.Shared, Size: u.Size,
			CreatedAt: u.CreatedAt, LastUsedAt: u.LastUsedAt, UsageCount: u.UsageCount,
		})
	}
	slices.SortStableFunc(out, func(a, b build.CacheRecord) int { return cmp.Compare(lastUsed(b), lastUsed(a)) })
	return out, nil
}

func lastUsed(r build.CacheRecord) int64 {
	if r.LastUsedAt == nil {
		return r.CreatedAt.UnixNano()
	}
	return r.LastUsedAt.UnixNano()
}

// Prune removes cache records that nothing uses, and tells of it.
func (s *Service) Prune(ctx context.Context, o PruneOptions) (*build.CachePruneReport, error) {
	report, err := s.prune(ctx, o)
	if err == nil && s.o.Bus != nil {
		s.o.Bus.Publish(events.BuilderEventType, events.ActionPrune, "", map[string]string{"reclaimed": fmt.Sprint(report.SpaceReclaimed)})
	}
	return report, err
}

func (s *Service) prune(ctx context.Context, o PruneOptions) (*build.CachePruneReport, error) {
	labelled := o.Filters.Has("label")
	o.Filters = maps.Clone(o.Filters)
	maps.DeleteFunc(o.Filters, func(field string, _ []string) bool { return slices.Contains(labelFilters, field) })
	info, err := pruneInfo(o, time.Now())
	if err != nil {
		return nil, err
	}
	report := &build.CachePruneReport{CachesDeleted: []string{}}
	if labelled {
		return report, nil
	}
	e, done, err := s.opened()
	if err != nil {
		return nil, err
	}
	defer done()
	if e == nil {
		return report, nil
	}
	removed := make(chan client.UsageInfo)
	result := make(chan error, 1)
	go func() {
		defer close(removed)
		result <- e.worker.Prune(ctx, removed, info)
	}()
	for u := range removed {
		report.CachesDeleted = append(report.CachesDeleted, u.ID)
		report.SpaceReclaimed += uint64(max(u.Size, 0))
	}
	if err := <-result; err != nil {
		return nil, fmt.Errorf("prune the build cache: %w", err)
	}
	return report, nil
}

// pruneFilters are Docker's filters of /build/prune. "until" and "unused-for" are
// one; the others select records by their fields.
var pruneFilters = []string{"until", "unused-for", "id", "parent", "type", "description", "inuse", "shared", "private"}

// labelFilters come with `system prune`. No cache record has labels: asked for one, none
// is removed (Docker ignores them, and removes all); asked for all without one, all are.
var labelFilters = []string{"label", "label!"}

func pruneInfo(o PruneOptions, now time.Time) (client.PruneInfo, error) {
	info := client.PruneInfo{All: o.All, ReservedSpace: o.ReservedSpace, MaxUsedSpace: o.MaxUsedSpace, MinFreeSpace: o.MinFreeSpace}
	if err := o.Filters.Validate(pruneFilters...); err != nil {
		return info, err
	}
	age, err := unusedFor(o.Filters, now)
	if err != nil {
		return info, err
	}
	info.KeepDuration = age
	var terms []string
	for _, field := range pruneFilters[2:] {
		values := o.Filters.Get(field)
		switch {
		case len(values) > 1:
			return info, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("filters expect only one value for %q", field))
		case len(values) == 0:
		case field == "id":
			terms = append(terms, "id~="+values[0])
		case field == "inuse" || field == "shared" || field == "private":
			terms = append(terms, field)
		default:
			terms = append(terms, field+"=="+values[0])
		}
	}
	if len(terms) > 0 {
		info.Filter = []string{strings.Join(terms, ",")}
	}
	return info, nil
}

// unusedFor reads a duration, or a time in the past.
func unusedFor(f filter.Args, now time.Time) (time.Duration, error) {
	values := slices.Concat(f.Get("until"), f.Get("unused-for"))
	if len(values) == 0 {
		return 0, nil
	}
	if len(values) > 1 {
		return 0, errdefs.ErrInvalidArgument.WithMessage("filters expect only one of \"until\" and \"unused-for\"")
	}
	if d, err := time.ParseDuration(values[0]); err == nil {
		return d, nil
	}
	t, err := time.Parse(time.RFC3339, values[0])
	if err != nil {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid value %q for filter \"until\": want a duration or a time", values[0]))
	}
	return max(now.Sub(t), 0), nil
}
