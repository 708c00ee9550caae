package cli

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/client"
	"muelle/internal/cli/runflags"
	"muelle/internal/console"
)

// errNoRun says that the server has no POST /muelle/v1/run: Docker, or an older
// daemon.
var errNoRun = errors.New("the server does not run in one request")

// runAtOnce is run by one request, which Muelle's daemon serves.
func (a *app) runAtOnce(ctx context.Context, c *client.Client, f *runFlags, spec *runflags.Spec) error {
	cfg := spec.Config
	w, h := console.Size(a.Out)
	spec.HostConfig.ConsoleSize = [2]uint{h, w}
	r := api.RunRequest{
		Name: f.name, Platform: f.platform, Config: cfg, HostConfig: spec.HostConfig, NetworkingConfig: spec.Networking,
		Detach: !cfg.AttachStdin && !cfg.AttachStdout && !cfg.AttachStderr,
		Stdin:  cfg.AttachStdin, Stdout: cfg.AttachStdout, Stderr: cfg.AttachStderr, DetachKeys: f.detachKeys,
	}
	if r.Detach {
		return a.runDetached(ctx, c, f, spec, r)
	}
	var conn *client.Conn
	err := a.withImage(ctx, &f.createFlags, cfg.Image, func() (err error) {
		conn, err = c.Hijack(ctx, api.Prefix+"/run", nil, "tcp", nil, r)
		return runError(err)
	})
	if errors.Is(err, errNoRun) {
		return err
	}
	if err != nil {
		return a.failed(err)
	}
	defer func() { _ = conn.Close() }()
	id := conn.Header.Get(api.HeaderContainerID)
	a.warn(append(conn.Header.Values(api.HeaderWarning), dnsWarnings(spec)...))
	if f.sigProxy {
		defer a.forwardSignals(c, id)()
	}
	var result api.RunResult
	p := pump{conn: conn, tty: cfg.Tty, stdin: cfg.AttachStdin, stdout: true, stderr: true, detachKeys: f.detachKeys,
		resize: func(ctx context.Context, w, h uint) error { return c.Containers.Resize(ctx, id, w, h) },
		frames: func(out, errOut io.Writer) error { return readFrames(conn, out, errOut, &result) }}
	err = a.copyStreams(context.WithoutCancel(ctx), p)
	switch {
	case errors.Is(err, errDetached), err == nil && result.Detached:
		return nil
	case err != nil:
		return statusError{125, fmt.Sprintf("%s: error waiting for container: %v", a.name(), err)}
	case result.Error != "":
		return statusError{125, "Error waiting for container: " + result.Error}
	case result.ExitCode != 0:
		return statusError{result.ExitCode, ""}
	}
	return nil
}

func (a *app) runDetached(ctx context.Context, c *client.Client, f *runFlags, spec *runflags.Spec, r api.RunRequest) error {
	var out container.CreateResponse
	err := a.withImage(ctx, &f.createFlags, spec.Config.Image, func() error {
		return runError(c.Post(ctx, api.Prefix+"/run", nil, r, &out))
	})
	if errors.Is(err, errNoRun) {
		return err
	}
	if err != nil {
		// Created and not started: Docker's client has printed the id by then.
		if e := new(client.Error); errors.As(err, &e) && e.Header.Get(api.HeaderContainerID) != "" && !spec.HostConfig.AutoRemove {
			_, _ = fmt.Fprintln(a.Out, e.Header.Get(api.HeaderContainerID))
		}
		return a.failed(err)
	}
	a.warn(append(out.Warnings, dnsWarnings(spec)...))
	_, _ = fmt.Fprintln(a.Out, out.ID)
	return nil
}

// runError tells a server without the endpoint from a failed run, which names its
// stage.
func runError(err error) error {
	e := new(client.Error)
	if !errors.As(err, &e) || e.Header.Get(api.HeaderRunStage) != "" {
		return err
	}
	if e.Status == http.StatusMethodNotAllowed || errdefs.IsNotFound(err) || errdefs.IsNotImplemented(err) {
		return errNoRun
	}
	return err
}

// readFrames reads a run's output until the frame with its result.
func readFrames(r io.Reader, out, errOut io.Writer, result *api.RunResult) error {
	var head [8]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return fmt.Errorf("the daemon ended the connection: %w", err)
		}
		body := io.LimitReader(r, int64(binary.BigEndian.Uint32(head[4:])))
		w := out
		switch head[0] {
		case api.RunFrame:
			return json.NewDecoder(body).Decode(result)
		case 2:
			w = errOut
		}
		if _, err := io.Copy(w, body); err != nil {
			return err
		}
	}
}
