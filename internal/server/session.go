package server

import (
	"net/http"

	"github.com/moby/moby/api/types/common"

	"muelle/api"
)

// debugContainer prepares a session with tools in a container; it goes on below /exec.
func (s *Server) debugContainer(w *reply, r *request) error {
	var req api.DebugRequest
	if err := readStrictJSON(w, r.Request, &req); err != nil {
		return err
	}
	if req.Image == "" {
		return badRequest("no image with tools specified")
	}
	id, err := s.o.Containers.DebugCreate(r.Context(), r.name, req)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, common.IDResponse{ID: id})
}
