package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"time"

	containertypes "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"

	"muelle/internal/container"
)

type containerFiles interface {
	StatPath(ctx context.Context, ref, path string) (containertypes.PathStat, error)
	Archive(ctx context.Context, ref, path string, begin func(containertypes.PathStat) io.Writer) error
	Extract(ctx context.Context, ref, path string, o container.ExtractOptions, r io.Reader) error
	Changes(ctx context.Context, ref string) ([]containertypes.FilesystemChange, error)
	Commit(ctx context.Context, ref string, o container.CommitOptions) (digest.Digest, error)
	Export(ctx context.Context, ref string, begin func() io.Writer) error
}

// archivePath gives the query's path, which must be there.
func archivePath(r *request) (string, error) {
	path := r.URL.Query().Get("path")
	if path == "" {
		return "", badRequest("bad parameter: 'path' cannot be empty")
	}
	return path, nil
}

func setPathStat(w *reply, st containertypes.PathStat) {
	// A struct of plain fields always encodes.
	b, _ := json.Marshal(st)
	w.Header().Set("X-Docker-Container-Path-Stat", base64.StdEncoding.EncodeToString(b))
}

func (s *Server) statPath(w *reply, r *request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	st, err := s.o.Containers.StatPath(r.Context(), r.name, path)
	if err != nil {
		return err
	}
	setPathStat(w, st)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) getArchive(w *reply, r *request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	err = s.o.Containers.Archive(r.Context(), r.name, path, func(st containertypes.PathStat) io.Writer {
		setPathStat(w, st)
		w.Header().Set("Content-Type", "application/x-tar")
		w.flush()
		return w
	})
	return s.cutOff(w, r, "copy from container", err)
}

// cutOff breaks the connection where a stream failed after its first byte: nothing else
// can tell the client that it is not whole.
func (s *Server) cutOff(w *reply, r *request, what string, err error) error {
	if err == nil || !w.begun {
		return err
	}
	if r.Context().Err() == nil {
		s.log.Error(what, "container", r.name, "err", err)
	}
	panic(http.ErrAbortHandler)
}

func (s *Server) putArchive(w *reply, r *request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	control := http.NewResponseController(w.ResponseWriter)
	o := container.ExtractOptions{
		NoOverwriteDirNonDir: boolOf(q, "noOverwriteDirNonDir"), CopyUIDGID: boolOf(q, "copyUIDGID"),
		// The container is gone; if the connection is too there is nothing to abort.
		Abort: func() { _ = control.SetReadDeadline(time.Now()) },
	}
	if err := s.o.Containers.Extract(r.Context(), r.name, path, o, r.Body); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) exportContainer(w *reply, r *request) error {
	err := s.o.Containers.Export(r.Context(), r.name, func() io.Writer {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.flush()
		return w
	})
	return s.cutOff(w, r, "export container", err)
}

func (s *Server) containerChanges(w *reply, r *request) error {
	changes, err := s.o.Containers.Changes(r.Context(), r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, changes) // null where there is none, as Docker
}

func (s *Server) commitContainer(w *reply, r *request) error {
	q := r.URL.Query()
	if q.Get("container") == "" {
		return badRequest("bad parameter: 'container' cannot be empty")
	}
	o := container.CommitOptions{
		Author: q.Get("author"), Comment: q.Get("comment"), Changes: q["changes"], Pause: boolOr(q, "pause", true),
	}
	if q.Get("repo") != "" {
		target, err := namedTarget(q.Get("repo"), q.Get("tag"))
		if err != nil {
			return err
		}
		o.Ref = target
	}
	if err := readJSON(w, r.Request, &o.Config); err != nil {
		return err
	}
	id, err := s.o.Containers.Commit(r.Context(), q.Get("container"), o)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, containertypes.CommitResponse{ID: id.String()})
}
