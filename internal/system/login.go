package system

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
)

// Login checks credentials with their registry by asking for its API's root.
func (s *Service) Login(ctx context.Context, auth registry.AuthConfig) (*registry.AuthResponse, error) {
	name, err := registryName(auth.ServerAddress)
	if err != nil {
		return nil, err
	}
	hosts, err := s.o.Remote.Hosts(&auth)(name)
	if err != nil {
		return nil, fmt.Errorf("find registry %s: %w", name, err)
	}
	if len(hosts) == 0 {
		return nil, errdefs.ErrUnavailable.WithMessage("no host serves registry " + name)
	}
	// The registry itself stands last, behind its mirrors.
	if err := try(ctx, hosts[len(hosts)-1]); err != nil {
		return nil, err
	}
	return &registry.AuthResponse{Status: "Login Succeeded"}, nil
}

// registryName is the host of a server address, which clients send as a name or,
// for Docker Hub, as a URL.
func registryName(address string) (string, error) {
	switch address {
	case "", "https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io":
		return "docker.io", nil
	}
	u, err := url.Parse(address)
	if err == nil && u.Host != "" {
		return u.Host, nil
	}
	if u, err = url.Parse("//" + address); err != nil || u.Host == "" {
		return "", errdefs.ErrInvalidArgument.WithMessage("invalid registry address: " + address)
	}
	return u.Host, nil
}

// try asks with the credentials; the registry's challenge says how they are shown.
func try(ctx context.Context, h docker.RegistryHost) error {
	root := h.Scheme + "://" + h.Host + h.Path + "/"
	for range 2 {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, root, nil)
		if err != nil {
			return err
		}
		if h.Authorizer != nil {
			if err := h.Authorizer.Authorize(ctx, req); err != nil {
				return errdefs.ErrUnauthenticated.WithMessage(fmt.Sprintf("login attempt to %s failed: %s", root, err))
			}
		}
		res, err := h.Client.Do(req)
		if err != nil {
			return err
		}
		res.Body.Close()
		switch {
		case res.StatusCode < 300:
			return nil
		case res.StatusCode != http.StatusUnauthorized || h.Authorizer == nil:
			return fmt.Errorf("login attempt to %s failed with status: %s", root, res.Status)
		}
		if err := h.Authorizer.AddResponses(ctx, []*http.Response{res}); err != nil {
			break
		}
	}
	return errdefs.ErrUnauthenticated.WithMessage(fmt.Sprintf("login attempt to %s failed with status: 401 Unauthorized", root))
}
