package buildclient

import (
	"context"

	"github.com/moby/buildkit/session/auth"
	"github.com/moby/moby/api/types/registry"
	"google.golang.org/grpc"

	"muelle/internal/console"
)

// credentials answers the builder's questions for registries' credentials, which
// never leave this process otherwise.
type credentials struct {
	auth.UnimplementedAuthServer
	lookup func(host string) (*registry.AuthConfig, error)
}

func (c *credentials) Register(server *grpc.Server) { auth.RegisterAuthServer(server, c) }

func (c *credentials) Credentials(_ context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	if c.lookup == nil {
		return &auth.CredentialsResponse{}, nil
	}
	host := req.Host
	if host == "registry-1.docker.io" || host == "docker.io" {
		host = console.DockerHub
	}
	a, err := c.lookup(host)
	if err != nil {
		return nil, err
	}
	if a == nil {
		return &auth.CredentialsResponse{}, nil
	}
	if a.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: a.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password}, nil
}
