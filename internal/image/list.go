package image

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/filter"
)

// ListOptions are those of GET /images/json.
type ListOptions struct {
	All        bool // without intermediate images there are none more to show
	Filters    filter.Args
	SharedSize bool
	Manifests  bool
}

// List gives the images, newest first. Filters: dangling, label, reference, before,
// since, until.
func (s *Service) List(ctx context.Context, o ListOptions) ([]image.Summary, error) {
	if err := o.Filters.Validate("dangling", "label", "label!", "reference", "before", "since", "until"); err != nil {
		return nil, err
	}
	_, targets, err := s.index.load(ctx)
	if err != nil {
		return nil, err
	}
	keep, err := s.matcher(ctx, o.Filters)
	if err != nil {
		return nil, err
	}
	summaries := []image.Summary{}
	for _, e := range targets {
		img, err := s.describe(ctx, e)
		if err != nil {
			// A broken image must not hide the others.
			s.log.Warn("skip image in list", "image", e.target.Digest, "err", err)
			continue
		}
		summary := summarise(img, e)
		if !keep(img, &summary) {
			continue
		}
		summary.Containers = int64(len(s.holders(img.ID)))
		if o.Manifests {
			if summary.Manifests, err = s.manifestSummaries(ctx, img); err != nil {
				return nil, err
			}
		}
		summaries = append(summaries, summary)
	}
	if o.SharedSize {
		if err := s.setSharedSizes(ctx, summaries); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(summaries, func(a, b image.Summary) int {
		if a.Created != b.Created {
			return int(b.Created - a.Created)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return summaries, nil
}

func summarise(img *Image, e entry) image.Summary {
	target := img.Target
	target.Annotations = nil
	summary := image.Summary{
		ID: img.ID.String(), RepoTags: []string{}, RepoDigests: repoDigests(e),
		Created: created(img).Unix(), Size: img.Size, SharedSize: -1, Containers: -1,
		Labels: img.Config.Config.Labels, Descriptor: &target,
	}
	summary.RepoTags = append(summary.RepoTags, tags(e)...)
	return summary
}

// created is the zero Unix time for an image that does not tell, as reproducible
// builds do not.
func created(img *Image) time.Time {
	if img.Config.Created == nil {
		return time.Unix(0, 0).UTC()
	}
	return *img.Config.Created
}

// tags are the familiar names with a tag.
func tags(e entry) []string {
	var out []string
	for _, name := range e.names {
		if named, err := reference.ParseNormalizedNamed(name); err == nil {
			if _, ok := named.(reference.Tagged); ok {
				out = append(out, name)
			}
		}
	}
	return out
}

func repoDigests(e entry) []string {
	out := []string{}
	for _, record := range e.records {
		if isDangling(record.Name) {
			continue
		}
		named, err := reference.ParseNormalizedNamed(record.Name)
		if err != nil {
			continue
		}
		digested := reference.FamiliarName(named) + "@" + e.target.Digest.String()
		if !slices.Contains(out, digested) {
			out = append(out, digested)
		}
	}
	return out
}

// matcher gives the filters as one function. A reference filter leaves of an image
// only the names that match it.
func (s *Service) matcher(ctx context.Context, f filter.Args) (func(*Image, *image.Summary) bool, error) {
	wantDangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	for _, pattern := range f.Get("reference") {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid filter 'reference=%s'", pattern))
		}
	}
	before, since, err := s.timeBounds(ctx, f)
	if err != nil {
		return nil, err
	}
	return func(img *Image, summary *image.Summary) bool {
		if f.Has("dangling") && wantDangling != (len(img.Names) == 0) {
			return false
		}
		if !f.MatchLabels("label", img.Config.Config.Labels) || f.Has("label!") && f.MatchLabels("label!", img.Config.Config.Labels) {
			return false
		}
		t := created(img)
		if !before.IsZero() && !t.Before(before) || !since.IsZero() && !t.After(since) {
			return false
		}
		if !f.Has("reference") {
			return true
		}
		keep := func(name string) bool { return matchesReference(f.Get("reference"), name) }
		summary.RepoTags = slices.DeleteFunc(summary.RepoTags, func(n string) bool { return !keep(n) })
		summary.RepoDigests = slices.DeleteFunc(summary.RepoDigests, func(n string) bool { return !keep(n) })
		return len(summary.RepoTags)+len(summary.RepoDigests) > 0
	}, nil
}

// timeBounds reads before and since, which name images, and until, a time.
func (s *Service) timeBounds(ctx context.Context, f filter.Args) (before, since time.Time, err error) {
	for _, ref := range f.Get("before") {
		img, err := s.Get(ctx, ref)
		if err != nil {
			return before, since, err
		}
		if t := created(img); before.IsZero() || t.Before(before) {
			before = t
		}
	}
	for _, ref := range f.Get("since") {
		img, err := s.Get(ctx, ref)
		if err != nil {
			return before, since, err
		}
		if t := created(img); t.After(since) {
			since = t
		}
	}
	for _, value := range f.Get("until") {
		t, err := parseTime(value, time.Now())
		if err != nil {
			return before, since, err
		}
		if before.IsZero() || t.Before(before) {
			before = t
		}
	}
	return before, since, nil
}

func matchesReference(patterns []string, name string) bool {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := reference.FamiliarMatch(p, named)
		return err == nil && ok
	})
}

// setSharedSizes counts the unpacked layers that other images of the list have too.
func (s *Service) setSharedSizes(ctx context.Context, summaries []image.Summary) error {
	uses := map[string]int{}
	sizes := map[string]map[string]int64{}
	for _, summary := range summaries {
		layers, err := s.layerSizes(ctx, summary.ID)
		if err != nil {
			return err
		}
		sizes[summary.ID] = layers
		for layer := range maps.Keys(layers) {
			uses[layer]++
		}
	}
	for i := range summaries {
		summaries[i].SharedSize = 0
		for layer, size := range sizes[summaries[i].ID] {
			if uses[layer] > 1 {
				summaries[i].SharedSize += size
			}
		}
	}
	return nil
}

func (s *Service) manifestSummaries(ctx context.Context, img *Image) ([]image.ManifestSummary, error) {
	candidates, err := s.manifests(ctx, img.Target)
	if err != nil {
		return nil, err
	}
	out := make([]image.ManifestSummary, 0, len(candidates))
	for _, c := range candidates {
		m := image.ManifestSummary{ID: c.desc.Digest.String(), Descriptor: c.desc, Kind: image.ManifestKindImage, Available: true}
		if m.Size.Content, err = s.contentSize(ctx, c.desc); err != nil {
			return nil, err
		}
		var config ocispec.Image
		if err := s.readDocument(ctx, c.manifest.Config, &config); err != nil {
			return nil, err
		}
		unpacked, err := s.unpackedSizes(ctx, config.RootFS.DiffIDs)
		if err != nil {
			return nil, err
		}
		m.ImageData = &image.ImageProperties{Platform: c.platform, Containers: []string{}}
		for _, n := range unpacked {
			m.ImageData.Size.Unpacked += n
		}
		m.Size.Total = m.Size.Content + m.ImageData.Size.Unpacked
		for _, layer := range c.manifest.Layers {
			if _, err := s.store.Content().Info(ctx, layer.Digest); err != nil {
				m.Available = false
			}
		}
		if c.desc.Digest == img.Manifest.Digest {
			for _, h := range s.holders(img.ID) {
				m.ImageData.Containers = append(m.ImageData.Containers, h.containerID)
			}
		}
		out = append(out, m)
	}
	return out, nil
}
