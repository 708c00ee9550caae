package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	containertypes "github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/container"
)

// run creates a container, attaches to it, starts it and waits for it in one
// request (see api.RunRequest).
func (s *Server) run(w *reply, r *request) error {
	var req api.RunRequest
	if err := readStrictJSON(w, r.Request, &req); err != nil {
		return err
	}
	if req.Config == nil {
		return badRequest("config cannot be empty in order to create a container")
	}
	keys, err := detachKeys(req.DetachKeys)
	if err != nil {
		return err
	}
	w.Header().Set(api.HeaderRunStage, "create")
	created, err := s.o.Containers.Create(r.Context(), container.CreateOptions{
		Name: req.Name, Platform: req.Platform,
		Config: req.Config, HostConfig: req.HostConfig, Networking: req.NetworkingConfig,
	})
	if err != nil {
		return err
	}
	w.Header().Set(api.HeaderContainerID, created.ID)
	w.Header().Set(api.HeaderRunStage, "start")
	if req.Detach {
		// The client may go as soon as it has the id: the start is not its to cancel.
		if err := s.o.Containers.Start(context.WithoutCancel(r.Context()), created.ID); err != nil {
			return err
		}
		w.Header().Del(api.HeaderRunStage)
		return writeJSON(w, http.StatusOK, created)
	}
	return s.runAttached(w, r, &req, created, keys)
}

func (s *Server) runAttached(w *reply, r *request, req *api.RunRequest, created containertypes.CreateResponse, keys []byte) error {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	condition := containertypes.WaitConditionNextExit
	if req.HostConfig != nil && req.HostConfig.AutoRemove {
		condition = containertypes.WaitConditionRemoved
	}
	wait, err := s.o.Containers.Wait(ctx, created.ID, condition)
	if err != nil {
		return err
	}
	gate := &startGate{ready: make(chan struct{})}
	attached := make(chan error, 1)
	opened := make(chan struct{})
	go func() {
		attached <- s.o.Containers.Attach(ctx, created.ID, container.AttachOptions{
			Stream: true, DetachKeys: req.DetachKeys,
			Open: func(bool) (container.Streams, error) {
				defer close(opened)
				return gate.streams(req), nil
			},
		})
	}()
	select {
	case <-opened:
	case err := <-attached:
		return err
	}
	// Nothing may come between create and start that leaves a container nobody
	// knows of: the start goes on even if the client has gone.
	if err := s.o.Containers.Start(context.WithoutCancel(ctx), created.ID); err != nil {
		cancel(err)
		gate.fail(err)
		<-attached
		return err
	}
	st, err := s.takeOver(w, r)
	if err != nil {
		cancel(err)
		gate.fail(err)
		<-attached
		return err
	}
	defer st.close()
	header := []string{api.HeaderContainerID + ": " + created.ID}
	for _, warning := range created.Warnings {
		header = append(header, api.HeaderWarning+": "+strings.Join(strings.Fields(warning), " "))
	}
	if err := st.upgrade(r.Request, multiplexedStream, header...); err != nil {
		cancel(errGone)
	}
	frames := &framer{w: st.Conn}
	tty := req.Config.Tty
	in := st.input(cancel, req.Stdin)
	if in != nil && tty {
		in = newDetachable(in, keys, cancel)
	}
	gate.open(in, frames)
	return s.finishRun(ctx, frames, attached, wait)
}

// finishRun waits for the streams and the end of the container and tells it.
func (s *Server) finishRun(ctx context.Context, frames *framer, attached <-chan error, wait func(context.Context) (containertypes.WaitResponse, error)) error {
	attachErr := <-attached
	var result api.RunResult
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errDetached):
		result.Detached = true
	case cause != nil:
		return nil // the client has gone, the container runs on
	default:
		exit, err := wait(ctx)
		if ctx.Err() != nil {
			return nil
		}
		result.ExitCode = int(exit.StatusCode)
		switch {
		case err != nil:
			result.ExitCode, result.Error = 125, err.Error()
		case exit.Error != nil:
			result.Error = exit.Error.Message
		case attachErr != nil:
			result.Error = attachErr.Error()
		}
	}
	last, err := json.Marshal(result)
	if err != nil {
		return err
	}
	_, _ = frames.stream(api.RunFrame).Write(last)
	return nil
}

// startGate is what a container is attached to before its client can be told that
// it was started: reads and writes wait for that.
type startGate struct {
	ready  chan struct{}
	err    error
	in     io.Reader
	frames *framer
}

func (g *startGate) open(in io.Reader, frames *framer) {
	g.in, g.frames = in, frames
	close(g.ready)
}

func (g *startGate) fail(err error) {
	g.err = err
	close(g.ready)
}

func (g *startGate) streams(req *api.RunRequest) container.Streams {
	var c container.Streams
	if req.Stdin {
		c.Stdin = gateReader{g}
	}
	if req.Stdout || req.Config.Tty {
		c.Stdout = gateWriter{g, stdoutFrame}
	}
	if req.Stderr && !req.Config.Tty {
		c.Stderr = gateWriter{g, stderrFrame}
	}
	return c
}

type gateReader struct{ *startGate }

func (g gateReader) Read(p []byte) (int, error) {
	<-g.ready
	if g.err != nil {
		return 0, g.err
	}
	return g.in.Read(p)
}

type gateWriter struct {
	*startGate
	typ byte
}

func (g gateWriter) Write(p []byte) (int, error) {
	<-g.ready
	if g.err != nil {
		return 0, g.err
	}
	return g.frames.stream(g.typ).Write(p)
}
