package build

import (
	"context"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/moby/api/types/registry"
	"google.golang.org/grpc"
)

// dockerHub is the key of Docker Hub in a client's configuration, and
// dockerHubHost the host that is asked for it.
const (
	dockerHub     = "https://index.docker.io/v1/"
	dockerHubHost = "registry-1.docker.io"
)

// credentials answers for the registries that a classic build names in
// X-Registry-Config, and for no others.
func credentials(configs map[string]registry.AuthConfig) session.Attachable {
	return &credentialServer{configs: configs}
}

type credentialServer struct {
	auth.UnimplementedAuthServer
	configs map[string]registry.AuthConfig
}

func (s *credentialServer) Register(server *grpc.Server) { auth.RegisterAuthServer(server, s) }

func (s *credentialServer) Credentials(_ context.Context, req *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	host := req.Host
	if host == dockerHubHost {
		host = dockerHub
	}
	c, ok := s.configs[host]
	if !ok && host == dockerHub {
		c, ok = s.configs["docker.io"]
	}
	if !ok {
		c = s.configs["https://"+host]
	}
	if c.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: c.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: c.Username, Secret: c.Password}, nil
}
