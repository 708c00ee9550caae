package build

import (
	"context"
	"io"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/moby/buildkit/client"
	"github.com/moby/moby/api/types/jsonstream"
)

// What the tests look at from outside.
var (
	StoreAttributes = storeAttributes
	BuildFailure    = buildFailure
	PruneInfo       = pruneInfo
	ExitFailure     = exitFailure
	BuiltinSyntax   = builtinSyntax
)

// NamedSnapshots and NamedLeases are the store's parts under BuildKit's names.
func NamedSnapshots(s snapshots.Snapshotter) snapshots.Snapshotter { return namedSnapshots{s} }

// NamedLeases wraps a lease manager.
func NamedLeases(l leases.Manager) leases.Manager { return namedLeases{l} }

// Attributes are the frontend's for a request.
func (r *Request) Attributes() map[string]string { return r.attributes() }

// Check refuses what cannot be done.
func (r *Request) Check() error { return r.check() }

// ExtractContext unpacks with small limits.
func ExtractContext(ctx context.Context, body io.Reader, dir string, entries int, bytes int64) error {
	return extractContext(ctx, body, dir, limits{entries: entries, bytes: bytes})
}

// Steps translates progress for the Dockerfile in dir and gives the text.
func Steps(dir string, r Request, updates []*client.SolveStatus) (string, error) {
	stages, err := readSteps(dir, r)
	if err != nil {
		return "", err
	}
	text := ""
	w := newStepWriter(stages, r.Quiet, func(m jsonstream.Message) { text += m.Stream })
	for _, u := range updates {
		w.update(u)
	}
	w.finish()
	return text, nil
}

// Policy gives the rules for a cache in root.
func (k Keep) Policy(root string) ([]client.PruneInfo, error) { return k.policy(root) }
