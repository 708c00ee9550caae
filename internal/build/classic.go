package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gatewayapi "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/session"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/tonistiigi/fsutil"
	"google.golang.org/grpc"

	"muelle/internal/id"
)

// Build runs a classic build of the tar stream body and reports it with out, as
// the classic builder did. An error that happened in the build is a
// *jsonstream.Error with the failed command's exit code, for the stream's last
// message; others were found before anything was sent.
func (s *Service) Build(ctx context.Context, r Request, body io.Reader, out func(jsonstream.Message)) (string, error) {
	if err := r.check(); err != nil {
		return "", err
	}
	e, done, err := s.open()
	if err != nil {
		return "", err
	}
	defer done()
	ctx, finish, err := s.register(ctx, r.BuildID)
	if err != nil {
		return "", err
	}
	defer finish()

	dir := filepath.Join(s.o.Root, "contexts", id.New())
	defer os.RemoveAll(dir)
	if err := extractContext(ctx, body, dir, contextLimits); err != nil {
		return "", err
	}
	steps, err := readSteps(dir, r)
	if err != nil {
		return "", err
	}
	imageID, err := e.solve(ctx, r, dir, newStepWriter(steps, r.Quiet, out))
	if err != nil {
		return "", buildFailure(ctx, err)
	}
	report(r, imageID, out)
	return imageID, nil
}

// Cancel ends the classic build of that id.
func (s *Service) Cancel(buildID string) error {
	s.mu.Lock()
	cancel := s.classic[buildID]
	s.mu.Unlock()
	if cancel != nil {
		cancel(errors.New("build cancelled"))
	}
	return nil
}

// register makes the build cancellable, by Cancel and by Close.
func (s *Service) register(ctx context.Context, buildID string) (context.Context, func(), error) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.life, func() { cancel(context.Cause(s.life)) })
	if buildID == "" {
		return ctx, func() { stop(); cancel(nil) }, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.classic[buildID]; ok {
		stop()
		cancel(nil)
		return nil, nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("build ID %s is already used", buildID))
	}
	s.classic[buildID] = cancel
	return ctx, func() {
		s.mu.Lock()
		delete(s.classic, buildID)
		s.mu.Unlock()
		stop()
		cancel(nil)
	}, nil
}

// solve gives the build to BuildKit, in process, and waits for its end.
func (e *engine) solve(ctx context.Context, r Request, dir string, steps *stepWriter) (string, error) {
	c, err := e.client(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	files, err := fsutil.NewFS(dir)
	if err != nil {
		return "", err
	}
	opt := client.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: r.attributes(),
		LocalMounts:   map[string]fsutil.FS{"context": files, "dockerfile": files},
		SharedKey:     r.sharedKey(),
		Session:       []session.Attachable{credentials(r.Auth)},
		Exports: []client.ExportEntry{{
			Type:  exporterMoby,
			Attrs: map[string]string{string(exptypes.OptKeyName): strings.Join(r.Tags, ",")},
		}},
	}
	if r.NetworkMode == "host" {
		opt.AllowedEntitlements = []string{"network.host"}
	}
	status := make(chan *client.SolveStatus)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for st := range status {
			steps.update(st)
		}
	}()
	resp, err := c.Solve(ctx, nil, opt, status)
	<-written
	if err != nil {
		return "", err
	}
	steps.finish()
	return resp.ExporterResponse[exptypes.ExporterImageDigestKey], nil
}

// client connects BuildKit's client to the server in this process.
func (e *engine) client(ctx context.Context) (*client.Client, error) {
	return client.New(ctx, "passthrough:///build", client.WithContextDialer(
		func(ctx context.Context, _ string) (net.Conn, error) {
			near, far := net.Pipe()
			go e.conns.handle(context.WithoutCancel(ctx), far) // the near end sees the failure
			return near, nil
		}), client.WithGRPCDialOption(grpc.WithInitialWindowSize(1<<20)))
}

// report ends a successful build's stream.
func report(r Request, imageID string, out func(jsonstream.Message)) {
	if r.Quiet {
		out(jsonstream.Message{Stream: imageID + "\n"})
		return
	}
	aux, err := json.Marshal(struct{ ID string }{imageID})
	if err == nil {
		raw := json.RawMessage(aux)
		out(jsonstream.Message{Aux: &raw})
	}
	short := strings.TrimPrefix(imageID, "sha256:")
	if len(short) > 12 {
		short = short[:12]
	}
	out(jsonstream.Message{Stream: "Successfully built " + short + "\n"})
	for _, t := range r.Tags {
		if ref, err := reference.ParseNormalizedNamed(t); err == nil {
			out(jsonstream.Message{Stream: "Successfully tagged " + reference.FamiliarString(reference.TagNameOnly(ref)) + "\n"})
		}
	}
}

// buildFailure words a failed build for the stream's end; a failed command as the
// classic builder did, with its exit code.
func buildFailure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return &jsonstream.Error{Message: "build cancelled: " + context.Cause(ctx).Error()}
	}
	text := strings.TrimPrefix(err.Error(), "failed to solve: ")
	var exit *gatewayapi.ExitError
	if !errors.As(err, &exit) {
		return &jsonstream.Error{Message: text}
	}
	if command, rest, ok := strings.Cut(strings.TrimPrefix(text, "process \""), "\" did not complete successfully"); ok {
		if strings.HasPrefix(rest, ": exit code: ") {
			text = fmt.Sprintf("The command '%s' returned a non-zero code: %d", command, exit.ExitCode)
		}
	}
	return &jsonstream.Error{Code: int(exit.ExitCode), Message: text}
}
