package server

import (
	"net/http"

	"muelle/api"
)

func (s *Server) explain(w *reply, r *request) error {
	var q api.ExplainRequest
	if err := readJSON(w, r.Request, &q); err != nil {
		return err
	}
	e, err := s.o.Projects.Explain(r.Context(), q)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, e)
}
