package remote

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// mirroredResolver tells "the mirror does not have it, and docker.io cannot be
// reached" from "docker.io does not have it": containerd's resolver reports the
// mirror's answer alone.
type mirroredResolver struct {
	remotes.Resolver
	upstream *failure
}

// Resolve implements remotes.Resolver.
func (r mirroredResolver) Resolve(ctx context.Context, ref string) (string, ocispec.Descriptor, error) {
	name, desc, err := r.Resolver.Resolve(ctx, ref)
	if cause := r.upstream.get(); cause != nil && errdefs.IsNotFound(err) {
		err = unreachedError{err: err, cause: cause}
	}
	return name, desc, err
}

// unreachedError is a mirror's "not found" where the registry itself failed.
type unreachedError struct{ err, cause error }

func (e unreachedError) Error() string {
	return fmt.Sprintf("not found on the mirror, and docker.io cannot be reached: %v", e.cause)
}

func (e unreachedError) Unwrap() error { return e.err }

// failure is the last error of talking to a host.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// recorder remembers whether its host was reached.
type recorder struct {
	next    http.RoundTripper
	failure *failure
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.next.RoundTrip(req)
	r.failure.mu.Lock()
	r.failure.err = err
	r.failure.mu.Unlock()
	return resp, err
}
