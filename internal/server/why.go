package server

import (
	"context"
	"net/http"

	"muelle/api"
)

// Why explains what happened to a container.
type Why interface {
	Explain(ctx context.Context, ref string) (*api.WhyReport, error)
}

func (s *Server) why(w *reply, r *request) error {
	report, err := s.o.Why.Explain(r.Context(), r.name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
