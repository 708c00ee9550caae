package client

import (
	"context"
	"net/http"

	"muelle/api"
)

// Exposure tells who can really reach each port.
func (s System) Exposure(ctx context.Context) (api.ExposureReport, error) {
	var out api.ExposureReport
	err := s.c.call(ctx, http.MethodGet, api.Prefix+"/exposure", nil, nil, &out)
	return out, err
}
