package server

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/filter"
)

// Networks are what the endpoints below /networks need of *network.Service.
type Networks interface {
	lookups
	Create(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error)
	List(ctx context.Context, f filter.Args) ([]network.Summary, error)
	Inspect(ctx context.Context, ref string, status bool) (network.Inspect, error)
	Remove(ctx context.Context, ref string) error
	Prune(ctx context.Context, f filter.Args) (network.PruneReport, error)
}

func (s *Server) listNetworks(w *reply, r *request) error {
	f, err := filtersOf(r.URL.Query())
	if err != nil {
		return err
	}
	list, err := s.o.Networks.List(r.Context(), f)
	if err != nil {
		return err
	}
	if list == nil {
		list = []network.Summary{}
	}
	return writeJSON(w, http.StatusOK, list)
}

func (s *Server) inspectNetwork(w *reply, r *request) error {
	q := r.URL.Query()
	// verbose is about services of a swarm: it is only read.
	if v := q.Get("verbose"); v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid value for verbose: %s: %v", v, err))
		}
	}
	n, err := s.o.Networks.Inspect(r.Context(), r.name, r.version >= 52)
	if err != nil {
		return err
	}
	if scope := q.Get("scope"); scope != "" && scope != n.Scope {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", r.name))
	}
	return writeJSON(w, http.StatusOK, n)
}

func (s *Server) createNetwork(w *reply, r *request) error {
	var req network.CreateRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	answer, err := s.o.Networks.Create(r.Context(), req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, answer)
}

func (s *Server) removeNetwork(w *reply, r *request) error {
	if err := s.o.Networks.Remove(r.Context(), r.name); err != nil {
		return err
	}
	return noContent(w)
}

func (s *Server) pruneNetworks(w *reply, r *request) error {
	f, err := filtersOf(r.URL.Query())
	if err != nil {
		return err
	}
	report, err := s.o.Networks.Prune(r.Context(), f)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}

// connectNetwork: a container's networks are its own matter.
func (s *Server) connectNetwork(w *reply, r *request) error {
	var req network.ConnectRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	if err := s.o.Containers.ConnectNetwork(r.Context(), req.Container, r.name, req.EndpointConfig); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *Server) disconnectNetwork(w *reply, r *request) error {
	var req network.DisconnectRequest
	if err := readJSON(w, r.Request, &req); err != nil {
		return err
	}
	if err := s.o.Containers.DisconnectNetwork(r.Context(), req.Container, r.name, req.Force); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
