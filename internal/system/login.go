package system

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
)

// Login checks credentials with their registry.
func (s *Service) Login(context.Context, registry.AuthConfig) (*registry.AuthResponse, error) {
	return nil, errdefs.ErrNotImplemented.WithMessage("checking credentials (POST /auth) is not supported by this version of Muelle")
}
