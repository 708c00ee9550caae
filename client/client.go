// Package client speaks the Docker Engine API and what Muelle adds to it below
// /muelle/v1/ over a unix socket, TCP or ssh. It exists beside moby/client because that
// one costs a millisecond of package initialisation and a round trip to negotiate:
// here the newest version is asked for at once, and only a server that refuses it
// is asked again with its own.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"muelle/api"
)

// Options say where the daemon is and how to reach it.
type Options struct {
	// Host is a unix:// or tcp:// address; empty means the default socket.
	Host string
	// TLS makes a tcp:// address an HTTPS one.
	TLS *tls.Config
	// Version forces an API version ("1.45"); empty negotiates.
	Version   string
	UserAgent string
	Headers   map[string]string
	// Remote is the program that an ssh:// host runs as "REMOTE system dial-stdio";
	// empty means muelle.
	Remote string
}

// Client is a connection pool to one daemon. It is safe for concurrent use.
type Client struct {
	Containers Containers
	Execs      Execs
	Images     Images
	Networks   Networks
	Volumes    Volumes
	System     System
	Projects   Projects

	host    string
	network string
	address string
	base    string
	tls     *tls.Config
	headers map[string]string
	http    *http.Client
	// ssh is the command that connects to an ssh:// host.
	ssh []string

	mu      sync.Mutex
	version string
	// settled says that version is known to suit the server.
	settled bool
}

// New makes a client; nothing is dialled before the first request.
func New(o Options) (*Client, error) {
	if o.Host == "" {
		o.Host = "unix://" + api.DefaultSocket
	}
	c := &Client{host: o.Host, tls: o.TLS, version: api.DefaultVersion, headers: map[string]string{}}
	for k, v := range o.Headers {
		c.headers[k] = v
	}
	if o.UserAgent != "" {
		c.headers["User-Agent"] = o.UserAgent
	}
	if o.Version != "" {
		c.version, c.settled = strings.TrimPrefix(o.Version, "v"), true
	}
	if err := c.parseHost(o.Remote); err != nil {
		return nil, err
	}
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
			DialTLSContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
			DisableCompression: true,
			IdleConnTimeout:    30 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.Containers, c.Execs, c.Images = Containers{c}, Execs{c}, Images{c}
	c.Networks, c.Volumes, c.System, c.Projects = Networks{c}, Volumes{c}, System{c}, Projects{c}
	return c, nil
}

func (c *Client) parseHost(remote string) (err error) {
	proto, addr, ok := strings.Cut(c.host, "://")
	if !ok || addr == "" {
		return fmt.Errorf("unable to parse docker host `%s`", c.host)
	}
	switch proto {
	case "unix":
		c.network, c.address, c.base = "unix", addr, "http://api.muelle.localhost"
	case "tcp", "http", "https":
		u, err := url.Parse("tcp://" + addr)
		if err != nil {
			return fmt.Errorf("parse host %s: %w", c.host, err)
		}
		scheme := "http"
		if c.tls != nil || proto == "https" {
			scheme = "https"
			if c.tls == nil {
				c.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}
			}
		}
		c.network, c.address = "tcp", u.Host
		c.base = scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/")
	case "ssh":
		c.network, c.base = "ssh", "http://api.muelle.localhost"
		c.ssh, err = sshCommand(c.host, remote)
		return err
	default:
		return fmt.Errorf("unsupported protocol scheme %q in host %s", proto, c.host)
	}
	return nil
}

// Host is the address that the client was made for.
func (c *Client) Host() string { return c.host }

// Close closes idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// Dial opens a raw connection to the daemon, with TLS where that is asked for.
func (c *Client) Dial(ctx context.Context) (net.Conn, error) { return c.dial(ctx) }

func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	if c.network == "ssh" {
		return dialCommand(c.host, c.ssh)
	}
	d := &net.Dialer{Timeout: 30 * time.Second}
	conn, err := d.DialContext(ctx, c.network, c.address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &UnreachableError{Host: c.host, Err: err}
	}
	if c.tls == nil || c.network == "unix" {
		return conn, nil
	}
	cfg := c.tls.Clone()
	if cfg.ServerName == "" {
		host, _, _ := net.SplitHostPort(c.address)
		cfg.ServerName = host
	}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("TLS handshake with %s: %w", c.host, err), conn.Close())
	}
	return t, nil
}

// Version is the API version that the client and the server speak.
func (c *Client) Version(ctx context.Context) (string, error) {
	c.mu.Lock()
	v, settled := c.version, c.settled
	c.mu.Unlock()
	if settled {
		return v, nil
	}
	if _, err := c.System.Ping(ctx); err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version, nil
}

// Older says whether the server speaks only versions before the given one.
func (c *Client) Older(ctx context.Context, than string) (bool, error) {
	v, err := c.Version(ctx)
	return err == nil && versionLess(v, than), err
}

// Get reads a JSON answer into out, which may be nil or an *[]byte or io.Writer
// for the raw body. Paths begin with a slash and carry no version.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, http.MethodGet, path, query, nil, out)
}

// Post sends in as JSON (nothing if nil) and reads the answer as Get does.
func (c *Client) Post(ctx context.Context, path string, query url.Values, in, out any) error {
	return c.call(ctx, http.MethodPost, path, query, in, out)
}

// Delete is the same for DELETE.
func (c *Client) Delete(ctx context.Context, path string, query url.Values, out any) error {
	return c.call(ctx, http.MethodDelete, path, query, nil, out)
}

// Stream sends a request with a raw body and returns the answer's, to be closed by
// the caller. Content type and other headers come from header.
func (c *Client) Stream(ctx context.Context, method, path string, query url.Values, header http.Header, body io.Reader) (io.ReadCloser, error) {
	res, err := c.do(ctx, request{method: method, path: path, query: query, header: header, stream: body})
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}
