package image

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// reportEvery is how often a layer's progress is told.
const reportEvery = 100 * time.Millisecond

// report sends the messages of one transfer in order.
type report struct {
	mu   sync.Mutex
	send func(jsonstream.Message)
	told map[digest.Digest]time.Time
}

func newReport(send func(jsonstream.Message)) *report {
	if send == nil {
		send = func(jsonstream.Message) {}
	}
	return &report{send: send, told: map[digest.Digest]time.Time{}}
}

func (r *report) status(id, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send(jsonstream.Message{ID: id, Status: text})
}

// layer tells of a layer. The empty progress makes clients rewrite the layer's line
// instead of adding another.
func (r *report) layer(dgst digest.Digest, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.send(jsonstream.Message{ID: shortID(dgst), Status: text, Progress: &jsonstream.Progress{}})
}

// progress tells how far a layer is, but not too often.
func (r *report) progress(desc ocispec.Descriptor, text string, current int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.told[desc.Digest]) >= reportEvery {
		r.told[desc.Digest] = now
		r.send(jsonstream.Message{
			ID: shortID(desc.Digest), Status: text,
			Progress: &jsonstream.Progress{Current: min(current, desc.Size), Total: desc.Size},
		})
	}
}

// pullReport tells of a pull in Docker's words.
type pullReport struct {
	*report

	layersMu sync.Mutex
	pending  []digest.Digest // announced and not complete, in order
}

func newPullReport(send func(jsonstream.Message)) *pullReport {
	return &pullReport{report: newReport(send)}
}

func (r *pullReport) announce(layers []ocispec.Descriptor) {
	r.layersMu.Lock()
	defer r.layersMu.Unlock()
	for _, layer := range layers {
		r.pending = append(r.pending, layer.Digest)
		r.layer(layer.Digest, "Pulling fs layer")
	}
}

func (r *pullReport) exists(desc ocispec.Descriptor) {
	if images.IsLayerType(desc.MediaType) {
		r.layer(desc.Digest, "Already exists")
	}
}

func (r *pullReport) complete(desc ocispec.Descriptor) {
	r.layersMu.Lock()
	defer r.layersMu.Unlock()
	for i, dgst := range r.pending {
		if dgst == desc.Digest {
			r.pending = append(r.pending[:i], r.pending[i+1:]...)
			r.layer(desc.Digest, "Pull complete")
			return
		}
	}
}

// end completes the layers that needed no unpacking.
func (r *pullReport) end() {
	r.layersMu.Lock()
	defer r.layersMu.Unlock()
	for _, dgst := range r.pending {
		r.layer(dgst, "Pull complete")
	}
	r.pending = nil
}

// ingester reports what is written to next.
func (r *pullReport) ingester(next content.Ingester) content.Ingester {
	return reportingIngester{next: next, report: r}
}

type reportingIngester struct {
	next   content.Ingester
	report *pullReport
}

func (i reportingIngester) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	var o content.WriterOpts
	for _, opt := range opts {
		if err := opt(&o); err != nil {
			return nil, err
		}
	}
	w, err := i.next.Writer(ctx, opts...)
	if err != nil || !images.IsLayerType(o.Desc.MediaType) {
		return w, err
	}
	return &reportingWriter{Writer: w, desc: o.Desc, verb: "Downloading", report: i.report.report, done: i.report.downloaded}, nil
}

func (r *pullReport) downloaded(desc ocispec.Descriptor) {
	r.layer(desc.Digest, "Download complete")
}

// reportingWriter reports one layer's bytes, up or down.
type reportingWriter struct {
	content.Writer
	desc   ocispec.Descriptor
	verb   string
	n      int64
	report *report
	done   func(ocispec.Descriptor)
}

func (w *reportingWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.n += int64(n)
	w.report.progress(w.desc, w.verb, w.n)
	return n, err
}

func (w *reportingWriter) Truncate(size int64) error {
	w.n = size
	return w.Writer.Truncate(size)
}

func (w *reportingWriter) Commit(ctx context.Context, size int64, expected digest.Digest, opts ...content.Opt) error {
	if w.verb == "Downloading" {
		w.report.layer(w.desc.Digest, "Verifying Checksum")
	}
	err := w.Writer.Commit(ctx, size, expected, opts...)
	if err == nil {
		w.done(w.desc)
	}
	return err
}

// applier reports what next unpacks.
func (r *pullReport) applier(next diff.Applier) diff.Applier {
	return reportingApplier{next: next, report: r}
}

type reportingApplier struct {
	next   diff.Applier
	report *pullReport
}

func (a reportingApplier) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, opts ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	opts = append(opts, diff.WithProgress(func(_ ocispec.Descriptor, n int64) { a.report.progress(desc, "Extracting", n) }))
	out, err := a.next.Apply(ctx, desc, mounts, opts...)
	if err == nil {
		a.report.complete(desc)
	}
	return out, err
}
