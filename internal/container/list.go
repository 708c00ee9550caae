package container

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	ctypes "github.com/moby/moby/api/types/container"
	mnet "github.com/moby/moby/api/types/network"

	"muelle/internal/container/mountpoint"
	"muelle/internal/filter"
)

func itoa(n int) string { return strconv.Itoa(n) }

// view is one container as List and its filters see it.
type view struct {
	c     *entry
	rec   record
	st    state
	state *ctypes.State
}

// List gives the containers that match, the last created first.
func (s *Service) List(ctx context.Context, o ListOptions) ([]ctypes.Summary, error) {
	sel, err := s.selection(ctx, o)
	if err != nil {
		return nil, err
	}
	views := make([]view, 0, 16)
	for _, c := range s.all() {
		c.mu.Lock()
		v := view{c: c, rec: c.rec, st: c.st, state: c.apiState()}
		c.mu.Unlock()
		views = append(views, v)
	}
	slices.SortFunc(views, func(a, b view) int { return b.rec.Created.Compare(a.rec.Created) })
	out := []ctypes.Summary{}
	now := time.Now()
	further := linkNames(views)
	for _, v := range views {
		if !sel.matches(&v) {
			continue
		}
		sum, err := s.summary(ctx, &v, now, o.Size)
		if err != nil {
			return nil, err
		}
		sum.Names = append(sum.Names, further[v.rec.ID]...)
		out = append(out, sum)
		if o.Limit > 0 && len(out) == o.Limit {
			break
		}
	}
	return out, nil
}

func (s *Service) summary(ctx context.Context, v *view, now time.Time, size bool) (ctypes.Summary, error) {
	rec := &v.rec
	sum := ctypes.Summary{
		ID: rec.ID, Names: []string{"/" + rec.Name}, Image: s.imageName(ctx, rec), ImageID: rec.Image.ID.String(),
		Command: commandText(rec.Path, rec.Args), Created: rec.Created.Unix(), Ports: portSummaries(v.st.Ports),
		Labels: rec.Config.Labels, State: v.state.Status, Status: statusText(v.state, now),
		NetworkSettings: &ctypes.NetworkSettingsSummary{Networks: s.networksOf(rec, &v.st)},
		Mounts:          mountPoints(rec.Mounts),
	}
	if sum.Labels == nil {
		sum.Labels = map[string]string{}
	}
	if rec.Image.Manifest.Digest != "" {
		sum.ImageManifestDescriptor = &rec.Image.Manifest
	}
	sum.HostConfig.NetworkMode = string(rec.HostConfig.NetworkMode)
	sum.HostConfig.Annotations = rec.HostConfig.Annotations
	if h := v.st.Health; h != nil {
		sum.Health = &ctypes.HealthSummary{Status: h.Status, FailingStreak: h.FailingStreak}
	}
	if size {
		rw, err := v.c.sizeRw(ctx)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return sum, err
		}
		sum.SizeRw, sum.SizeRootFs = rw, rw+rec.Image.Size
	}
	return sum, nil
}

// imageName shows the name that was asked for, or the id where that name means
// another image by now.
func (s *Service) imageName(ctx context.Context, rec *record) string {
	img, err := s.o.Images.Get(ctx, rec.Config.Image)
	if err != nil || img.ID != rec.Image.ID {
		return rec.Image.ID.String()
	}
	return rec.Config.Image
}

// selection is what List filters by, with names resolved once.
type selection struct {
	f              filter.Args
	all            bool
	before, since  time.Time
	exited         []int
	ancestors      []string
	networks       []string
	publish, expos []mnet.PortRange
	volumes        []string
	task           bool
}

var listFilters = []string{
	"ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume",
}

func (s *Service) selection(ctx context.Context, o ListOptions) (*selection, error) {
	f := o.Filters
	if err := f.Validate(listFilters...); err != nil {
		return nil, err
	}
	sel := &selection{f: f, all: o.All || o.Limit > 0 || f.Has("status"), volumes: f.Get("volume")}
	for _, v := range f.Get("status") {
		if err := ctypes.ValidateContainerState(ctypes.ContainerState(v)); err != nil {
			return nil, invalid("%s", err)
		}
	}
	for _, v := range f.Get("health") {
		if err := ctypes.ValidateHealthStatus(ctypes.HealthStatus(v)); err != nil {
			return nil, invalid("%s", err)
		}
	}
	for _, v := range f.Get("exited") {
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, invalid("invalid filter 'exited=%s'", v)
		}
		sel.exited = append(sel.exited, n)
	}
	var err error
	if sel.task, err = f.Bool("is-task", false); err != nil {
		return nil, err
	}
	for field, t := range map[string]*time.Time{"before": &sel.before, "since": &sel.since} {
		for _, ref := range f.Get(field) {
			c, err := s.find(ref)
			if err != nil {
				return nil, err
			}
			rec, _ := c.snapshot()
			*t = rec.Created
		}
	}
	for _, ref := range f.Get("ancestor") {
		if img, err := s.o.Images.Get(ctx, ref); err == nil {
			sel.ancestors = append(sel.ancestors, img.ID.String())
		}
	}
	for _, ref := range f.Get("network") {
		sel.networks = append(sel.networks, s.networkName(ref))
	}
	if sel.publish, err = portRanges(f, "publish"); err != nil {
		return nil, err
	}
	sel.expos, err = portRanges(f, "expose")
	return sel, err
}

func portRanges(f filter.Args, field string) ([]mnet.PortRange, error) {
	var out []mnet.PortRange
	for _, v := range f.Get(field) {
		r, err := mnet.ParsePortRange(v)
		if err != nil {
			return nil, invalid("invalid filter '%s=%s': %s", field, v, err)
		}
		out = append(out, r)
	}
	return out, nil
}

func (sel *selection) matches(v *view) bool {
	f, rec := sel.f, &v.rec
	switch {
	case !sel.all && !v.st.running(),
		!f.Match("id", rec.ID),
		!f.Match("name", rec.Name) && !f.Match("name", "/"+rec.Name),
		!f.MatchLabels("label", rec.Config.Labels),
		!f.ExactMatch("status", string(v.state.Status)),
		!f.ExactMatch("health", string(healthOf(&v.st))),
		f.Has("is-task") && sel.task, // no container of ours is a task of swarm
		f.Has("isolation") && !f.ExactMatch("isolation", string(rec.HostConfig.Isolation)),
		!sel.before.IsZero() && !rec.Created.Before(sel.before),
		!sel.since.IsZero() && !rec.Created.After(sel.since),
		len(sel.exited) > 0 && (v.st.running() || !v.st.Started || !slices.Contains(sel.exited, v.st.ExitCode)),
		f.Has("ancestor") && !slices.Contains(sel.ancestors, rec.Image.ID.String()) && !slices.Contains(f.Get("ancestor"), rec.Config.Image),
		f.Has("network") && !sel.onNetwork(rec),
		f.Has("volume") && !sel.hasVolume(rec),
		f.Has("publish") && !inRanges(sel.publish, v.st.Ports, true),
		f.Has("expose") && !inRanges(sel.expos, v.st.Ports, false):
		return false
	}
	return true
}

func healthOf(st *state) ctypes.HealthStatus {
	if st.Health == nil {
		return ctypes.NoHealthcheck
	}
	return st.Health.Status
}

func (sel *selection) onNetwork(rec *record) bool {
	for name := range rec.Endpoints {
		if slices.Contains(sel.networks, name) {
			return true
		}
	}
	return slices.Contains(sel.networks, string(rec.HostConfig.NetworkMode))
}

func (sel *selection) hasVolume(rec *record) bool {
	return slices.ContainsFunc(rec.Mounts, func(m mountpoint.Mount) bool {
		return slices.ContainsFunc(sel.volumes, func(v string) bool {
			return v == m.Name || v == m.Source || v == strings.TrimSuffix(m.Destination, "/")
		})
	})
}

func inRanges(ranges []mnet.PortRange, ports mnet.PortMap, published bool) bool {
	for p, bindings := range ports {
		if published && len(bindings) == 0 {
			continue
		}
		for _, r := range ranges {
			if p.Proto() == r.Proto() && r.Start() <= p.Num() && p.Num() <= r.End() {
				return true
			}
		}
	}
	return false
}

// untilTime reads the filter until of prune: a time, or a duration before now.
func untilTime(f filter.Args) (time.Time, error) {
	values := f.Get("until")
	switch {
	case len(values) == 0:
		return time.Time{}, nil
	case len(values) > 1:
		return time.Time{}, invalid("more than one until filter specified")
	}
	v := values[0]
	if d, err := time.ParseDuration(v); err == nil {
		return time.Now().Add(-d), nil
	}
	if sec, err := strconv.ParseFloat(v, 64); err == nil {
		return time.UnixMicro(int64(sec * 1e6)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, v, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, invalid("failed to parse value as time or duration: %q", v)
}
