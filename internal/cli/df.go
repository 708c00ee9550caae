package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

const (
	dfFormat           = `table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}`
	dfImagesFormat     = `table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}`
	dfContainersFormat = `table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}`
	dfVolumesFormat    = `table {{.Name}}\t{{.Links}}\t{{.Size}}`
	dfCacheFormat      = `table {{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}`
)

// diskUsage is the answer of /system/df in both of its forms: the flat one of all
// versions up to 1.51 and the one by kind.
type diskUsage struct {
	system.DiskUsage
	LayersSize  int64
	Images      []image.Summary
	Containers  []container.Summary
	Volumes     []volume.Volume
	BuildCache  []build.CacheRecord
	BuilderSize int64
}

// settle fills in the flat form from the one by kind.
func (d *diskUsage) settle() {
	if d.ImageUsage != nil && d.Images == nil {
		d.Images, d.LayersSize = d.ImageUsage.Items, d.ImageUsage.TotalSize
	}
	if d.ContainerUsage != nil && d.Containers == nil {
		d.Containers = d.ContainerUsage.Items
	}
	if d.VolumeUsage != nil && d.Volumes == nil {
		d.Volumes = d.VolumeUsage.Items
	}
	if d.BuildCacheUsage != nil && d.BuildCache == nil {
		d.BuildCache, d.BuilderSize = d.BuildCacheUsage.Items, d.BuildCacheUsage.TotalSize
	}
	if d.BuilderSize == 0 {
		for _, c := range d.BuildCache {
			if !c.Shared {
				d.BuilderSize += c.Size
			}
		}
	}
}

// usageRow is one kind's line.
type usageRow struct {
	kind               string
	total, active      int
	size, reclaimable  int64
	withoutReclaimRate bool
	uncounted          bool // nothing to count or, unless it says otherwise, to reclaim
}

func (r *usageRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// Type is the kind.
func (r *usageRow) Type() string { return r.kind }

// TotalCount counts them.
func (r *usageRow) TotalCount() string {
	if r.uncounted {
		return ""
	}
	return strconv.Itoa(r.total)
}

// Active counts those in use.
func (r *usageRow) Active() string {
	if r.uncounted {
		return ""
	}
	return strconv.Itoa(r.active)
}

// Size is what they hold.
func (r *usageRow) Size() string { return size4(r.size) }

// Reclaimable is what pruning would free.
func (r *usageRow) Reclaimable() string {
	if r.uncounted && r.reclaimable == 0 {
		return ""
	}
	if r.withoutReclaimRate {
		return size4(r.reclaimable)
	}
	return percentOf(r.reclaimable, r.size)
}

func (d *diskUsage) rows() []any {
	images := &usageRow{kind: "Images", total: len(d.Images), size: d.LayersSize, reclaimable: d.LayersSize}
	for _, i := range d.Images {
		if i.Containers > 0 {
			images.active++
		}
		if i.Containers != 0 && i.Size != -1 && i.SharedSize != -1 {
			images.reclaimable -= i.Size - i.SharedSize
		}
	}
	containers := &usageRow{kind: "Containers", total: len(d.Containers)}
	for _, c := range d.Containers {
		containers.size += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			containers.active++
		default:
			containers.reclaimable += c.SizeRw
		}
	}
	volumes := &usageRow{kind: "Local Volumes", total: len(d.Volumes)}
	for _, v := range d.Volumes {
		if v.UsageData == nil {
			continue
		}
		if v.UsageData.RefCount > 0 {
			volumes.active++
		}
		if v.UsageData.Size != -1 {
			volumes.size += v.UsageData.Size
			if v.UsageData.RefCount == 0 {
				volumes.reclaimable += v.UsageData.Size
			}
		}
	}
	cache := &usageRow{kind: "Build Cache", total: len(d.BuildCache), size: d.BuilderSize, reclaimable: d.BuilderSize, withoutReclaimRate: true}
	for _, c := range d.BuildCache {
		if c.InUse {
			cache.active++
			if !c.Shared {
				cache.reclaimable -= c.Size
			}
		}
	}
	return []any{images, containers, volumes, cache}
}

func (a *app) systemDf() *cobra.Command {
	var verbose bool
	var format string
	c := a.command("df [OPTIONS]", "Show docker disk usage", noArgs, func(ctx context.Context, _ []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		raw, err := c.System.DiskUsageRaw(ctx, map[string][]string{"verbose": {"1"}})
		if err != nil {
			return err
		}
		var d diskUsage
		if err := json.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("decode disk usage: %w", err)
		}
		d.settle()
		rows := d.rows()
		if a.where.Name != "docker" && !verbose {
			if rows, err = accountRows(ctx, c, rows); err != nil {
				return err
			}
		}
		if verbose {
			return a.dfVerbose(&d, pick(format, ""))
		}
		source := pick(format, "")
		switch source {
		case "table":
			source = dfFormat
		case "raw":
			source = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n"
		}
		t := console.Table{Out: a.Out, Format: source, Headers: map[string]string{"Type": "TYPE", "TotalCount": "TOTAL", "Active": "ACTIVE", "Size": titleSize, "Reclaimable": "RECLAIMABLE"}}
		return t.Write(rows...)
	})
	c.Short = "Show disk usage"
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "Show detailed information on space usage")
	c.Flags().StringVar(&format, "format", "", formatHelp)
	return c
}

// accountRows replaces Docker's rows by all that there are, and their sum; a Docker
// engine has no more.
func accountRows(ctx context.Context, c *client.Client, docker []any) ([]any, error) {
	all, err := c.System.Account(ctx)
	if errdefs.IsNotFound(err) {
		return docker, nil
	}
	if err != nil {
		return nil, err
	}
	var rows []any
	for _, r := range all.Rows {
		rows = append(rows, &usageRow{
			kind: r.Kind, total: int(r.Count), active: int(r.Active), size: r.Size, reclaimable: r.Reclaimable,
			withoutReclaimRate: r.Kind == "Build Cache", uncounted: !r.Docker,
		})
	}
	return append(rows, &usageRow{kind: "Total of " + all.DataRoot, size: all.Total, uncounted: true}), nil
}

// verboseUsage is what a template of df -v sees.
type verboseUsage struct {
	Images     []*imageRow
	Containers []*containerRow
	Volumes    []*volumeRow
	BuildCache []*cacheRow
}

func (d *diskUsage) verbose(trunc bool) verboseUsage {
	v := verboseUsage{Images: []*imageRow{}, Containers: []*containerRow{}, Volumes: []*volumeRow{}, BuildCache: []*cacheRow{}}
	for _, i := range d.Images {
		r := &imageRow{trunc: trunc, i: i, repo: "<none>", tag: "<none>"}
		if len(i.RepoTags) > 0 && !dangling(i) {
			ref, err := console.ParseRef(i.RepoTags[0])
			if err != nil {
				continue
			}
			r.repo, r.tag = ref.Familiar(), ref.Tag
		}
		v.Images = append(v.Images, r)
	}
	for _, c := range d.Containers {
		c.SizeRootFs = 0
		v.Containers = append(v.Containers, &containerRow{Container: console.Container{Trunc: trunc, Of: c}})
	}
	for _, x := range d.Volumes {
		v.Volumes = append(v.Volumes, &volumeRow{x})
	}
	sortCache(d.BuildCache)
	for _, x := range d.BuildCache {
		v.BuildCache = append(v.BuildCache, &cacheRow{trunc, x})
	}
	return v
}

func (a *app) dfVerbose(d *diskUsage, format string) error {
	v := d.verbose(format == "table")
	if format != "table" {
		if format == "json" {
			format = "{{json .}}"
		}
		t, err := console.Template(format)
		if err != nil {
			return err
		}
		return t.Execute(a.Out, v)
	}
	for _, part := range []struct {
		title, format string
		headers       map[string]string
		rows          []any
	}{
		{"Images space usage:\n\n", dfImagesFormat, imageHeaders(), rowsOf(v.Images, func(r *imageRow) any { return r })},
		{"\nContainers space usage:\n\n", dfContainersFormat, containerHeaders(), rowsOf(v.Containers, func(r *containerRow) any { return r })},
		{"\nLocal Volumes space usage:\n\n", dfVolumesFormat, volumeHeaders(), rowsOf(v.Volumes, func(r *volumeRow) any { return r })},
		{"\nBuild cache usage: " + size4(d.BuilderSize) + "\n\n", dfCacheFormat, cacheHeaders(), rowsOf(v.BuildCache, func(r *cacheRow) any { return r })},
	} {
		_, _ = fmt.Fprint(a.Out, part.title)
		t := console.Table{Out: a.Out, Format: part.format, Headers: part.headers}
		if err := t.Write(part.rows...); err != nil {
			return err
		}
	}
	return nil
}
