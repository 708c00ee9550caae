package image

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/store"
)

// entry is one image: a target and the names of the records that point to it.
type entry struct {
	target  ocispec.Descriptor
	records []images.Image // sorted by name
	names   []string       // the records' names as a user sees them
}

// index is the image store's names in memory. It is read again after any change,
// by whomever; descriptions stay, for they belong to immutable targets.
type index struct {
	store *store.Store

	mu         sync.Mutex
	generation uint64 // counts changes, so that a read that one overtook is not kept
	names      map[string]images.Image
	targets    map[digest.Digest]entry
	described  map[digest.Digest]*Image // without Names
}

func newIndex(s *store.Store) *index {
	return &index{store: s, described: map[digest.Digest]*Image{}}
}

// changed is the store's callback.
func (x *index) changed(string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.generation++
	x.names, x.targets = nil, nil
}

// forget has a target described again: more of it has come.
func (x *index) forget(target digest.Digest) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.described, target)
}

// forgetAll has every target described again.
func (x *index) forgetAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.described)
}

// load gives the current maps, which nobody changes.
func (x *index) load(ctx context.Context) (map[string]images.Image, map[digest.Digest]entry, error) {
	for {
		x.mu.Lock()
		names, targets, generation := x.names, x.targets, x.generation
		x.mu.Unlock()
		if names != nil {
			return names, targets, nil
		}
		list, err := x.store.Images().List(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("list images: %w", err)
		}
		names, targets = build(list)
		x.mu.Lock()
		current := x.generation == generation
		if current {
			x.names, x.targets = names, targets
			maps.DeleteFunc(x.described, func(d digest.Digest, _ *Image) bool { _, ok := targets[d]; return !ok })
		}
		x.mu.Unlock()
		if current {
			return names, targets, nil
		}
	}
}

func build(list []images.Image) (map[string]images.Image, map[digest.Digest]entry) {
	names := make(map[string]images.Image, len(list))
	targets := make(map[digest.Digest]entry, len(list))
	slices.SortFunc(list, func(a, b images.Image) int { return strings.Compare(a.Name, b.Name) })
	for _, record := range list {
		names[record.Name] = record
		e := targets[record.Target.Digest]
		e.target = record.Target
		e.records = append(e.records, record)
		if familiar, ok := familiarName(record.Name); ok {
			e.names = append(e.names, familiar)
		}
		targets[record.Target.Digest] = e
	}
	return names, targets
}

// idPattern is what Docker takes for an ID or the beginning of one.
var idPattern = regexp.MustCompile(`^(?:sha256:)?([a-f0-9]{4,64})$`)

// resolve finds what ref means: a digest, a name, or the beginning of an ID.
func (x *index) resolve(ctx context.Context, ref string) (entry, error) {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return entry{}, errdefs.ErrInvalidArgument.WithMessage("invalid reference format")
	}
	names, targets, err := x.load(ctx)
	if err != nil {
		return entry{}, err
	}
	named, isNamed := parsed.(reference.Named)
	if digested, ok := parsed.(reference.Digested); ok {
		e, ok := targets[digested.Digest()]
		if !ok && !isNamed {
			e, ok = x.byContent(targets, digested.Digest())
		}
		if !ok || isNamed && !inRepository(e, named) {
			return entry{}, notFound(parsed)
		}
		return e, nil
	}
	if record, ok := names[reference.TagNameOnly(named).String()]; ok {
		return targets[record.Target.Digest], nil
	}
	match := idPattern.FindStringSubmatch(ref)
	if match == nil {
		return entry{}, notFound(reference.TagNameOnly(named))
	}
	return byPrefix(targets, match[1], named)
}

func byPrefix(targets map[digest.Digest]entry, prefix string, named reference.Named) (entry, error) {
	var found []entry
	for dgst, e := range targets {
		if strings.HasPrefix(dgst.Encoded(), prefix) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return entry{}, notFound(reference.TagNameOnly(named))
	case 1:
		return found[0], nil
	default:
		return entry{}, errdefs.ErrNotFound.WithMessage("ambiguous reference: " + prefix)
	}
}

// byContent finds an image by the digest of its manifest or configuration, which
// some clients take for its ID.
func (x *index) byContent(targets map[digest.Digest]entry, dgst digest.Digest) (entry, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for target, img := range x.described {
		if img.Manifest.Digest == dgst || img.configDigest == dgst {
			e, ok := targets[target]
			return e, ok
		}
	}
	return entry{}, false
}

func inRepository(e entry, named reference.Named) bool {
	return slices.ContainsFunc(e.records, func(record images.Image) bool {
		n, err := reference.ParseNormalizedNamed(record.Name)
		return err == nil && n.Name() == named.Name()
	})
}

func notFound(ref reference.Reference) error {
	return errdefs.ErrNotFound.WithMessage("No such image: " + reference.FamiliarString(ref))
}

func isDangling(name string) bool { return strings.HasPrefix(name, DanglingPrefix+"@") }

func danglingName(dgst digest.Digest) string { return DanglingPrefix + "@" + dgst.String() }

// familiarName gives a record's name as a user sees it; a dangling one has none.
func familiarName(name string) (string, bool) {
	if isDangling(name) {
		return "", false
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", false
	}
	return reference.FamiliarString(named), true
}
