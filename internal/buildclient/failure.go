package buildclient

import (
	"bytes"
	"context"
	"strings"

	"github.com/moby/buildkit/solver/errdefs"
)

// Failure is a build that failed: a command that exited with an error, a
// Dockerfile that cannot be understood, an image that is not there.
type Failure struct {
	// Excerpt shows the lines of the Dockerfile that the error is about, with the
	// line itself marked; it may be empty, else it ends with a newline.
	Excerpt string
	err     error
}

func (f *Failure) Error() string { return "failed to solve: " + f.text() }
func (f *Failure) Unwrap() error { return f.err }

func (f *Failure) text() string {
	return strings.TrimPrefix(f.err.Error(), "failed to solve: ")
}

// failure gives BuildKit's error its excerpt; when the daemon could not be reached,
// that is the error.
func (c *connection) failure(ctx context.Context, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dialErr != nil {
		return c.dialErr
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var b bytes.Buffer
	for _, s := range errdefs.Sources(err) {
		if perr := s.Print(&b); perr != nil {
			break // an excerpt is a convenience
		}
	}
	return &Failure{Excerpt: b.String(), err: err}
}
