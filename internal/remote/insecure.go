package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

// Insecure tells whether host, with or without a port, is loopback or was named as
// an insecure registry.
func (r *Resolver) Insecure(host string) bool { return r.rules.Load().insecure(host) }

func (r *rules) insecure(host string) bool {
	host = strings.ToLower(host)
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if name == "localhost" || r.names[host] || r.names[name] {
		return true
	}
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().IsLoopback() || r.inNetworks(addr)
	}
	if len(r.networks) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	return err == nil && slices.ContainsFunc(addrs, r.inNetworks)
}

func (r *rules) inNetworks(addr netip.Addr) bool {
	return slices.ContainsFunc(r.networks, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
}

// transport speaks plain HTTP only where it is allowed, wherever redirects and token
// services lead; and, for insecure registries, falls back to it where TLS is not
// spoken.
type transport struct {
	next       http.RoundTripper
	allowPlain func(host string) bool
	fallBack   bool
	plain      sync.Map // of hosts that answered only plain HTTP
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" {
		if !t.allowPlain(req.URL.Host) {
			closeBody(req)
			return nil, errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf(
				"refusing plain HTTP to %s: name it in --insecure-registry to allow it", req.URL.Host))
		}
		return t.send(req)
	}
	if !t.fallBack || !t.allowPlain(req.URL.Host) {
		return t.send(req)
	}
	_, known := t.plain.Load(req.URL.Host)
	if !known {
		resp, err := t.send(req)
		if err == nil || !speaksNoTLS(err, req.URL.Port()) {
			return resp, err
		}
	}
	resp, err := t.sendPlain(req, !known)
	if err != nil {
		t.plain.Delete(req.URL.Host)
		return nil, err
	}
	t.plain.Store(req.URL.Host, true)
	return resp, nil
}

// sendPlain sends req by plain HTTP, with a new body where the first one was spent.
// A body that is a pipe is only asked for when it is needed: each asking makes a new
// pipe that the pusher then writes to.
func (t *transport) sendPlain(req *http.Request, spent bool) (*http.Response, error) {
	plain := req.Clone(req.Context())
	plain.URL.Scheme = "http"
	if spent && req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		plain.Body = body
	}
	return t.send(plain)
}

func (t *transport) send(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() && req.Context().Err() == nil {
		// The resolver would try a timeout of the last host four times more.
		return nil, unreachable{err}
	}
	return resp, err
}

// speaksNoTLS tells whether the server answered in plain HTTP, or nothing listens
// at TLS's default port.
func speaksNoTLS(err error, port string) bool {
	var header tls.RecordHeaderError
	if errors.As(err, &header) {
		return string(header.RecordHeader[:]) == "HTTP/"
	}
	return strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") ||
		port == "" && errors.Is(err, syscall.ECONNREFUSED)
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// unreachable is a timeout that is not to be retried.
type unreachable struct{ error }

func (e unreachable) Unwrap() error { return e.error }
func (unreachable) Timeout() bool   { return false }
func (unreachable) Temporary() bool { return false }
