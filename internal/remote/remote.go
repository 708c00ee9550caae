// Package remote reaches registries: which hosts serve a name (mirrors stand before
// docker.io only), which may be spoken to without verified TLS, who is told the
// user's credentials, and what a registry's refusal means in Docker's words.
package remote

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/registry"
)

const (
	dockerHub     = "docker.io"
	dockerHubHost = "registry-1.docker.io"
	userAgent     = "muelle"

	// dialTimeout is short: an unreachable registry is worth a clear error soon.
	dialTimeout     = 5 * time.Second
	responseTimeout = 30 * time.Second
)

// Options are Docker's registry-mirrors and insecure-registries.
type Options struct {
	// Mirrors are URLs asked before docker.io.
	Mirrors []string
	// Insecure are names, host:port or CIDR blocks of registries that may be spoken
	// to by plain HTTP or unverified TLS. Loopback always may.
	Insecure []string
}

// Resolver knows the hosts of every registry name. It is safe for concurrent use.
type Resolver struct {
	rules    atomic.Pointer[rules]
	secure   *http.Client
	insecure *http.Client
}

// rules are Options, read.
type rules struct {
	mirrors  []mirror
	names    map[string]bool
	networks []netip.Prefix
	options  Options
}

type mirror struct {
	scheme, host, path string
}

// New refuses a mirror that is no URL, has credentials, or is plain HTTP to a host
// that may not be.
func New(o Options) (*Resolver, error) {
	r := &Resolver{}
	if err := r.Configure(o); err != nil {
		return nil, err
	}
	r.secure = &http.Client{Transport: &transport{allowPlain: r.Insecure, next: newTransport(&tls.Config{})}}
	r.insecure = &http.Client{Transport: &transport{
		allowPlain: r.Insecure, fallBack: true,
		// Docker does not verify the certificate of a registry that it was told is
		// insecure either.
		next: newTransport(&tls.Config{InsecureSkipVerify: true}),
	}}
	return r, nil
}

// Configure replaces the mirrors and the insecure registries, from the next request
// on. On error the old ones stay.
func (r *Resolver) Configure(o Options) error {
	l := &rules{names: map[string]bool{}, options: o}
	l.options.Insecure = slices.Clone(o.Insecure)
	for i, s := range l.options.Insecure {
		l.options.Insecure[i] = trimScheme(s)
	}
	for _, s := range o.Insecure {
		if err := l.addInsecure(s); err != nil {
			return err
		}
	}
	for _, s := range o.Mirrors {
		if err := l.addMirror(s); err != nil {
			return err
		}
	}
	r.rules.Store(l)
	return nil
}

func newTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   dialTimeout,
		ResponseHeaderTimeout: responseTimeout,
		ExpectContinueTimeout: time.Second,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          10,
		IdleConnTimeout:       30 * time.Second,
	}
}

func (r *rules) addInsecure(s string) error {
	s = trimScheme(s)
	if prefix, err := netip.ParsePrefix(s); err == nil {
		r.networks = append(r.networks, prefix.Masked())
		return nil
	}
	if s == "" || strings.Contains(s, "://") || strings.ContainsAny(s, "/ ") {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid insecure registry %q: want a host, host:port or CIDR", s))
	}
	r.names[strings.ToLower(s)] = true
	return nil
}

// trimScheme takes the scheme off an insecure registry, which people write and Docker
// removes as well.
func trimScheme(s string) string {
	for _, scheme := range []string{"http://", "https://"} {
		if len(s) >= len(scheme) && strings.EqualFold(s[:len(scheme)], scheme) {
			return s[len(scheme):]
		}
	}
	return s
}

func (r *rules) addMirror(s string) error {
	refuse := func(why string) error {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid registry mirror %q: %s", s, why))
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return refuse("want http://host:port or https://host:port")
	case u.Scheme != "http" && u.Scheme != "https":
		return refuse("unsupported scheme " + u.Scheme)
	case u.User != nil:
		return refuse("it must not contain credentials")
	case u.RawQuery != "" || u.Fragment != "":
		return refuse("it must not have a query or fragment")
	case u.Scheme == "http" && !r.insecure(u.Host):
		return refuse("plain HTTP is only spoken to loopback and to what --insecure-registry names")
	}
	r.mirrors = append(r.mirrors, mirror{scheme: u.Scheme, host: u.Host, path: path.Join("/", u.Path, "v2")})
	return nil
}

// Mirrors and insecure registries as they were configured, for `info`.
func (r *Resolver) Configured() Options { return r.rules.Load().options }

// Hosts gives the hosts of a registry name, first choice first. auth is for the
// registry itself; its mirrors are asked anonymously.
func (r *Resolver) Hosts(auth *registry.AuthConfig) docker.RegistryHosts {
	return func(name string) ([]docker.RegistryHost, error) {
		var hosts []docker.RegistryHost
		if name == dockerHub {
			for _, m := range r.rules.Load().mirrors {
				hosts = append(hosts, docker.RegistryHost{
					Client: r.client(m.host), Host: m.host, Scheme: m.scheme, Path: m.path,
					Authorizer:   r.authorizer(m.host, nil),
					Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve,
				})
			}
		}
		host := name
		if name == dockerHub {
			host = dockerHubHost
		}
		upstream := docker.RegistryHost{
			Client: r.client(host), Host: host, Scheme: "https", Path: "/v2",
			Authorizer: r.authorizer(host, auth),
			Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve |
				docker.HostCapabilityPush | docker.HostCapabilityReferrers,
		}
		if auth != nil && auth.RegistryToken != "" {
			upstream.Authorizer = nil
			upstream.Header = http.Header{"Authorization": {"Bearer " + auth.RegistryToken}}
		}
		return append(hosts, upstream), nil
	}
}

// Resolver gives a resolver with the credentials of one request. tracker, which may
// be nil, learns how far pushes are.
func (r *Resolver) Resolver(auth *registry.AuthConfig, tracker docker.StatusTracker) remotes.Resolver {
	upstream := &failure{}
	hosts := r.Hosts(auth)
	return mirroredResolver{upstream: upstream, Resolver: docker.NewResolver(docker.ResolverOptions{
		Hosts: func(name string) ([]docker.RegistryHost, error) {
			list, err := hosts(name)
			if len(list) > 1 {
				last := &list[len(list)-1]
				last.Client = &http.Client{Transport: &recorder{next: last.Client.Transport, failure: upstream}}
			}
			return list, err
		},
		Tracker: tracker,
		Headers: http.Header{"User-Agent": {userAgent}},
	})}
}

func (r *Resolver) client(host string) *http.Client {
	if r.Insecure(host) {
		return r.insecure
	}
	return r.secure
}

// authorizer answers the challenges of one host. Credentials go to that host and
// its token service only: a host that a redirect leads to gets none.
func (r *Resolver) authorizer(host string, auth *registry.AuthConfig) docker.Authorizer {
	return docker.NewDockerAuthorizer(
		docker.WithAuthClient(r.client(host)),
		docker.WithAuthHeader(http.Header{"User-Agent": {userAgent}}),
		docker.WithAuthCreds(func(asked string) (string, string, error) {
			switch {
			case auth == nil || asked != host:
				return "", "", nil
			case auth.IdentityToken != "":
				return "", auth.IdentityToken, nil
			default:
				return auth.Username, auth.Password, nil
			}
		}))
}
