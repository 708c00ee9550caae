package server

import (
	"encoding/json"
	"net/http"

	"muelle/api"
)

// lookups are what the endpoint of a container's lookups needs of *network.Service.
type lookups interface {
	QueriesSince(containerID string, n uint64) (list []api.DNSQuery, next uint64, changed <-chan struct{})
}

// containerLookups writes the last lookups of a container, one JSON object a line, and
// with follow those that come, until the container ends.
func (s *Server) containerLookups(w *reply, r *request) error {
	c, err := s.o.Containers.Inspect(r.Context(), r.name, false)
	if err != nil {
		return err
	}
	follow := boolOf(r.URL.Query(), "follow")
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for n := uint64(0); ; {
		list, next, changed := s.o.Networks.QueriesSince(c.ID, n)
		for _, q := range list {
			if e.Encode(q) != nil {
				return nil // the client has gone
			}
		}
		if !follow || changed == nil {
			return nil
		}
		n = next
		w.flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return nil
		}
	}
}
