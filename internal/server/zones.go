package server

import (
	"context"
	"net/http"

	"muelle/api"
	"muelle/internal/zone"
)

// Zones say who reaches whom.
type Zones interface {
	Report(ctx context.Context, o zone.Options) (*api.ZoneReport, error)
}

// zones: what is expected stands with the project.
func (s *Server) zones(w *reply, r *request) error {
	q := r.URL.Query()
	o := zone.Options{Project: q.Get("project"), Verify: boolOf(q, "verify")}
	if o.Project != "" {
		// A project of Docker Compose's has no document here, and expects nothing.
		if spec, err := s.o.Projects.Get(o.Project); err == nil {
			o.Expect, o.Known = spec.Expect, append(o.Known, spec.Disabled...)
			for _, svc := range spec.Services {
				o.Known = append(o.Known, svc.Name)
			}
		}
	}
	report, err := s.o.Zones.Report(r.Context(), o)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, report)
}
