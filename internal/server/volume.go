package server

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/volume"

	"muelle/internal/filter"
)

// Volumes are what the endpoints below /volumes need of *volume.Service.
type Volumes interface {
	Create(ctx context.Context, r volume.CreateRequest) (*volume.Volume, error)
	Get(ctx context.Context, name string) (*volume.Volume, error)
	List(ctx context.Context, f filter.Args) ([]volume.Volume, error)
	Remove(ctx context.Context, name string, force bool) error
	Prune(ctx context.Context, f filter.Args) (volume.PruneReport, error)
}

func (s *Server) listVolumes(w *reply, r *request) error {
	f, err := filtersOf(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := s.o.Volumes.List(r.Context(), f)
	if err != nil {
		return err
	}
	if list == nil {
		list = []volume.Volume{}
	}
	return writeJSON(w, http.StatusOK, volume.ListResponse{Volumes: list})
}

func (s *Server) inspectVolume(w *reply, r *request) error {
	v, err := s.o.Volumes.Get(r.Context(), r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, v)
}

func (s *Server) createVolume(w *reply, r *request) error {
	var req volume.CreateRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	v, err := s.o.Volumes.Create(r.Context(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, v)
}

func (s *Server) removeVolume(w *reply, r *request) error {
	if err := s.o.Volumes.Remove(r.Context(), r.name, boolOf(r.URL.Query(), "force")); err != nil {
		return err
	}
	return noContent(w)
}

// pruneVolumes: before 1.42 every unused volume went, since then anonymous ones
// only, unless the filter all says otherwise.
func (s *Server) pruneVolumes(w *reply, r *request) error {
	f, err := filtersOf(r.URL.Query())
	if err != nil {
		return err
	}
	if r.version < 42 && !f.Has("all") {
		if f == nil {
			f = filter.Args{}
		}
		f["all"] = []string{"true"}
	}
	report, err := s.o.Volumes.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
