package server

import (
	"context"
	"net/http"

	"muelle/api"
)

// Exposure tells who can really reach each port.
type Exposure interface {
	Report(ctx context.Context) (*api.ExposureReport, error)
}

func (s *Server) exposure(w *reply, r *request) error {
	report, err := s.o.Exposure.Report(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
