package build

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/worker/base"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/go-digest"

	"muelle/internal/event"
	"muelle/internal/image"
)

// imageWorker is BuildKit's worker with the exporter that Docker's clients ask for.
type imageWorker struct {
	*base.Worker
	images images.Store
	bus    *event.Bus
}

// exporterMoby is how Docker's clients name the engine's image store.
const exporterMoby = "moby"

// Exporter maps "moby" to BuildKit's image exporter, and makes both store images
// as the engine keeps them: with normalised names, unpacked, and findable without
// a name.
func (w *imageWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	if name != exporterMoby && name != client.ExporterImage {
		return w.Worker.Exporter(name, sm)
	}
	next, err := w.Worker.Exporter(client.ExporterImage, sm)
	if err != nil {
		return nil, err
	}
	return imageExporter{next: next, local: name == exporterMoby, images: w.images, bus: w.bus}, nil
}

type imageExporter struct {
	next   exporter.Exporter
	local  bool // the image is for this machine, not to be pushed
	images images.Store
	bus    *event.Bus
}

func (e imageExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	attrs, err := storeAttributes(attrs)
	if err != nil {
		return nil, err
	}
	if e.local {
		// Compressing takes most of the time of exporting a large layer; the best level
		// takes twice that of the first and saves a sixth of the space.
		setDefault(attrs, exptypes.OptKeyCompressionLevel, "1")
	}
	next, err := e.next.Resolve(ctx, id, attrs)
	if err != nil {
		return nil, err
	}
	return imageExport{ExporterInstance: next, images: e.images, bus: e.bus}, nil
}

// storeAttributes completes what a client asks of the image exporter.
func storeAttributes(in map[string]string) (map[string]string, error) {
	attrs := make(map[string]string, len(in)+4)
	for k, v := range in {
		attrs[k] = v
	}
	names, err := normalNames(attrs[string(exptypes.OptKeyName)])
	if err != nil {
		return nil, err
	}
	attrs[string(exptypes.OptKeyName)] = names
	if attrs[string(exptypes.OptKeyStore)] == "false" {
		return attrs, nil
	}
	setDefault(attrs, exptypes.OptKeyUnpack, "true")
	setDefault(attrs, exptypes.OptKeyDanglingPrefix, image.DanglingPrefix)
	setDefault(attrs, exptypes.OptKeyDanglingEmptyOnly, "true")
	return attrs, nil
}

func setDefault(attrs map[string]string, key exptypes.ImageExporterOptKey, value string) {
	if _, ok := attrs[string(key)]; !ok {
		attrs[string(key)] = value
	}
}

// normalNames makes "x,y:1" the names that the store uses, each once, in order.
func normalNames(list string) (string, error) {
	var out []string
	seen := map[string]bool{}
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if name == "" {
			continue
		}
		// "*" takes the name that the frontend gives.
		if name == "*" {
			out = append(out, name)
			continue
		}
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return "", fmt.Errorf("invalid tag %q: %w", name, err)
		}
		if _, ok := ref.(reference.Canonical); ok {
			return "", fmt.Errorf("invalid tag %q: a digest cannot be given to a build", name)
		}
		full := reference.TagNameOnly(ref).String()
		if !seen[full] {
			seen[full] = true
			out = append(out, full)
		}
	}
	return strings.Join(out, ","), nil
}

// imageExport is one export to the image store.
type imageExport struct {
	exporter.ExporterInstance
	images images.Store
	bus    *event.Bus
}

// Export stores the image and tells of its names. The reference that BuildKit's
// history would hold is given back at once, unless a push still needs it: history
// keeps logs and timings, but an image that the user removes must leave the disk.
func (e imageExport) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	resp, finalize, ref, err := e.ExporterInstance.Export(ctx, src, info)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := e.named(ctx, resp); err != nil {
		return nil, nil, nil, err
	}
	e.publish(resp)
	if finalize == nil && ref != nil {
		return resp, nil, nil, ref.Release()
	}
	return resp, finalize, ref, nil
}

// named forgets that the image once had no name, if it has one now: else removing
// its last name would leave it.
func (e imageExport) named(ctx context.Context, resp map[string]string) error {
	names := resp[exptypes.ExporterImageNameKey]
	if names == "" || strings.HasPrefix(names, image.DanglingPrefix) {
		return nil
	}
	err := e.images.Delete(ctx, image.DanglingPrefix+"@"+resp[exptypes.ExporterImageDigestKey])
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("forget the unnamed image: %w", err)
	}
	return nil
}

func (e imageExport) publish(resp map[string]string) {
	if e.bus == nil {
		return
	}
	id := resp[exptypes.ExporterImageDigestKey]
	if digest.Digest(id).Validate() != nil {
		return
	}
	e.bus.Publish(events.ImageEventType, events.ActionCreate, id, map[string]string{"name": id})
	for name := range strings.SplitSeq(resp[exptypes.ExporterImageNameKey], ",") {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil || strings.HasPrefix(name, image.DanglingPrefix) {
			continue
		}
		e.bus.Publish(events.ImageEventType, events.ActionTag, id, map[string]string{"name": reference.FamiliarString(ref)})
	}
}
