package server

import (
	"context"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/common"
	containertypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container"
)

func (s *Server) createExec(w *reply, r *request) error {
	var req containertypes.ExecCreateRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	if len(req.Cmd) == 0 {
		return badRequest("no exec command specified")
	}
	if _, err := detachKeys(req.DetachKeys); err != nil {
		return err
	}
	id, err := s.o.Containers.ExecCreate(r.Context(), r.name, req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, common.IDResponse{ID: id})
}

// startExec runs a created exec: detached it answers when the process has started,
// else the connection carries its streams until it ends.
func (s *Server) startExec(w *reply, r *request) error {
	var req containertypes.ExecStartRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	created, err := s.o.Containers.ExecInspect(r.Context(), r.name)
	if err != nil {
		return err
	}
	if req.ConsoleSize != nil && !req.Tty {
		return badRequest("console size is only supported when TTY is enabled")
	}
	if req.Detach {
		if err := s.o.Containers.ExecStart(r.Context(), r.name, container.ExecStartOptions{Detach: true, ConsoleSize: req.ConsoleSize}); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	keys, err := detachKeys(string(created.DetachKeys))
	if err != nil {
		return err
	}
	tty := created.ProcessConfig != nil && created.ProcessConfig.Tty
	st, err := s.takeOver(w, r)
	if err != nil {
		return err
	}
	defer st.close()
	if err := st.upgrade(r.Request, streamType(r, tty)); err != nil {
		return nil // the client has gone
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	streams := st.streams(cancel, tty, keys, created.OpenStdin, created.OpenStdout, created.OpenStderr)
	err = s.o.Containers.ExecStart(ctx, r.name, container.ExecStartOptions{Streams: streams, ConsoleSize: req.ConsoleSize})
	if err != nil && !ended(ctx, err) {
		// Docker tells a failed start on standard output; the exit code tells the rest.
		if streams.Stdout != nil {
			_, _ = io.WriteString(streams.Stdout, err.Error()+"\r\n")
		}
		return err
	}
	return nil
}

func (s *Server) inspectExec(w *reply, r *request) error {
	e, err := s.o.Containers.ExecInspect(r.Context(), r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, e)
}

func (s *Server) resizeExec(w *reply, r *request) error {
	height, width, err := resizeOf(r)
	if err != nil {
		return err
	}
	if err := s.o.Containers.ExecResize(r.Context(), r.name, height, width); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
