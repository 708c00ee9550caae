package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// check refuses what cannot be done, in Docker's words where it has some.
func (r *Request) check() error {
	switch {
	case r.Remote != "" && r.Remote != "client-session":
		return errdefs.ErrNotImplemented.WithMessage("building from a remote context (" + r.Remote + ") is not supported: fetch it and build the folder")
	case r.Remote == "client-session":
		return errdefs.ErrInvalidArgument.WithMessage("a client session builds through POST /grpc")
	case r.Squash:
		return errdefs.ErrNotImplemented.WithMessage("squash is not supported")
	case len(r.SecurityOpt) > 0:
		return errdefs.ErrNotImplemented.WithMessage("security options are not supported by this builder")
	}
	for _, t := range r.Tags {
		if _, err := normalNames(t); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
	}
	switch r.NetworkMode {
	case "", "default", "bridge", "host", "none":
	default:
		return errdefs.ErrNotImplemented.WithMessage(fmt.Sprintf("network mode %q not supported by buildkit", r.NetworkMode))
	}
	return nil
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
			go e.conns.handle(context.WithoutCancel(ctx), far) //nolint:errcheck // the near end sees the failure
			return near, nil
		}), client.WithGRPCDialOption(grpc.WithInitialWindowSize(1<<20)))
}

// attributes are the Dockerfile frontend's.
func (r *Request) attributes() map[string]string {
	attrs := map[string]string{}
	set := func(key, value string) {
		if value != "" {
			attrs[key] = value
		}
	}
	number := func(key string, n int64) {
		if n != 0 {
			attrs[key] = fmt.Sprint(n)
		}
	}
	set("filename", r.Dockerfile)
	set("target", r.Target)
	set("platform", r.Platform)
	set("add-hosts", hostList(r.ExtraHosts))
	set("cache-from", strings.Join(r.CacheFrom, ","))
	set("cgroup-parent", r.CgroupParent)
	set("cpusetcpus", r.CPUSetCPUs)
	set("cpusetmems", r.CPUSetMems)
	set("ulimit", ulimitList(r.Ulimits))
	number("shm-size", r.ShmSize)
	number("memory", r.Memory)
	number("memswap", r.MemorySwap)
	number("cpushares", r.CPUShares)
	number("cpuperiod", r.CPUPeriod)
	number("cpuquota", r.CPUQuota)
	if r.NoCache {
		attrs["no-cache"] = ""
	}
	if r.Pull {
		attrs[attrResolveMode] = "pull"
	}
	if r.NetworkMode == "host" || r.NetworkMode == "none" {
		attrs["force-network-mode"] = r.NetworkMode
	}
	for k, v := range r.BuildArgs {
		if v != nil {
			attrs["build-arg:"+k] = *v
		}
	}
	for k, v := range r.Labels {
		attrs["label:"+k] = v
	}
	return attrs
}

// hostList makes "name:address" BuildKit's "name=address,…"; an IPv6 address has
// colons of its own.
func hostList(hosts []string) string {
	var out []string
	for _, h := range hosts {
		if name, address, ok := strings.Cut(h, ":"); ok && !strings.Contains(name, "=") {
			h = name + "=" + address
		}
		out = append(out, h)
	}
	return strings.Join(out, ",")
}

func ulimitList(limits []Ulimit) string {
	var out []string
	for _, u := range limits {
		out = append(out, fmt.Sprintf("%s=%d:%d", u.Name, u.Soft, u.Hard))
	}
	return strings.Join(out, ",")
}

// sharedKey lets two builds that look alike reuse what was sent of the context.
func (r *Request) sharedKey() string {
	sum := sha256.Sum256([]byte("classic\x00" + r.Dockerfile + "\x00" + strings.Join(r.Tags, "\x00")))
	return hex.EncodeToString(sum[:])
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
