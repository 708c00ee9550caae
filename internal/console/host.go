// Package console is what the programs on a user's side share: finding or starting
// the daemon, credentials, contexts, tables and templates, sizes and durations in
// words, progress and the terminal.
package console

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"muelle/api"
	"muelle/client"
)

// Options are what a user says about where the daemon is.
type Options struct {
	// Name under which the program was called, "muelle" or "docker". Docker's
	// environment variables and contexts are read under the latter only.
	Name      string
	Hosts     []string
	Context   string
	ConfigDir string
	TLS       bool
	TLSVerify bool
	TLSCACert string
	TLSCert   string
	TLSKey    string
	// UserAgent of requests; empty: Muelle's.
	UserAgent string
	// Getenv reads the environment; nil means os.Getenv.
	Getenv func(string) string
	// Stderr gets the line that says the daemon was started; nil means os.Stderr.
	Stderr io.Writer
	// warned says that the unreadable configuration was told of.
	warned bool
}

// NewOptions makes options for a program called as arg0. The parts that muelle
// executes are told by MUELLE_NAME under which name it was called itself.
func NewOptions(arg0 string) *Options {
	o := &Options{Name: "muelle", Getenv: os.Getenv, Stderr: os.Stderr}
	if filepath.Base(arg0) == "docker" || os.Getenv("MUELLE_NAME") == "docker" && filepath.Base(arg0) != "muelle" {
		o.Name = "docker"
	}
	return o
}

// RegisterFlags defines Docker's global flags that say where the daemon is.
func (o *Options) RegisterFlags(f *pflag.FlagSet) {
	dir := o.DockerDir()
	f.StringVar(&o.ConfigDir, "config", dir, "Location of client config files")
	f.VarP((*hostList)(&o.Hosts), "host", "H", "Daemon socket to connect to")
	f.StringVarP(&o.Context, "context", "c", "", `Name of the context to use to connect to the daemon (overrides `+o.HostVar()+` env var and default context set with "`+o.Name+` context use")`)
	f.BoolVar(&o.TLS, "tls", false, "Use TLS; implied by --tlsverify")
	f.BoolVar(&o.TLSVerify, "tlsverify", false, "Use TLS and verify the remote")
	f.StringVar(&o.TLSCACert, "tlscacert", filepath.Join(dir, "ca.pem"), "Trust certs signed only by this CA")
	f.StringVar(&o.TLSCert, "tlscert", filepath.Join(dir, "cert.pem"), "Path to TLS certificate file")
	f.StringVar(&o.TLSKey, "tlskey", filepath.Join(dir, "key.pem"), "Path to TLS key file")
}

// hostList is -H, which may be given once only.
type hostList []string

// Set appends; that there are too many is told when they are used.
func (h *hostList) Set(s string) error {
	*h = append(*h, s)
	return nil
}

// String shows nothing: there is no default.
func (*hostList) String() string { return "" }

// Type is the word in the help text.
func (*hostList) Type() string { return "list" }

func (o *Options) getenv(k string) string {
	if o.Getenv == nil {
		return os.Getenv(k)
	}
	return o.Getenv(k)
}

// HostVar is the environment variable that names the daemon.
func (o *Options) HostVar() string {
	if o.Name == "docker" {
		return "DOCKER_HOST"
	}
	return "MUELLE_HOST"
}

// DockerDir is where Docker's client keeps its configuration: ~/.docker.
func (o *Options) DockerDir() string {
	if o.ConfigDir != "" {
		return o.ConfigDir
	}
	if d := o.getenv("DOCKER_CONFIG"); d != "" {
		return d
	}
	return filepath.Join(o.getenv("HOME"), ".docker")
}

// Endpoint is a daemon's address.
type Endpoint struct {
	Host string
	TLS  *tls.Config
	// Context is the context's name that it comes from, "default" for none.
	Context string
	// Default says that nobody named a place: the default socket.
	Default   bool
	UserAgent string
	// Version of the API that the user insists on; empty negotiates.
	Version string
	// Headers of every request, from config.json's HttpHeaders.
	Headers map[string]string
	// Remote is the program that an ssh:// host has.
	Remote string
}

// Client makes a client for the endpoint.
func (e Endpoint) Client() (*client.Client, error) {
	return client.New(client.Options{Host: e.Host, TLS: e.TLS, UserAgent: e.UserAgent, Version: e.Version, Headers: e.Headers, Remote: e.Remote})
}

// Find decides which daemon is meant: -H, the environment, contexts, the default
// socket. It talks to nobody.
func Find(o *Options) (Endpoint, error) {
	e, err := find(o)
	if err != nil {
		return e, err
	}
	e.UserAgent = o.UserAgent
	if e.UserAgent == "" {
		e.UserAgent = "Muelle-Client"
	}
	if e.Host, err = normalizeHost(e.Host); err != nil {
		return e, err
	}
	e.Version, e.Remote = o.getenv(strings.ToUpper(o.Name)+"_API_VERSION"), o.Name
	if e.Headers, err = o.headers(); err != nil {
		return e, err
	}
	if e.TLS == nil && strings.HasPrefix(e.Host, "tcp://") {
		e.TLS, err = o.tlsConfig()
	}
	return e, err
}

// headers are those that Docker's configuration wants in every request: they are for
// what stands before a Docker engine, so under its name only.
func (o *Options) headers() (map[string]string, error) {
	if o.Name != "docker" {
		return nil, nil
	}
	cfg, err := o.DockerConfig()
	if err != nil {
		return nil, err
	}
	headers := map[string]string{}
	for k, v := range cfg.HTTPHeaders {
		if !strings.EqualFold(k, "User-Agent") { // Docker never let it be set
			headers[k] = v
		}
	}
	// DOCKER_CUSTOM_HEADERS is one line of CSV, which replaces those of the file.
	if line := o.getenv("DOCKER_CUSTOM_HEADERS"); line != "" {
		fields, err := csv.NewReader(strings.NewReader(line)).Read()
		if err != nil {
			return nil, fmt.Errorf("failed to parse custom headers from DOCKER_CUSTOM_HEADERS environment variable: value must be formatted as comma-separated key=value pairs")
		}
		headers = map[string]string{}
		for _, f := range fields {
			k, v, ok := strings.Cut(f, "=")
			if k = strings.TrimSpace(k); !ok || k == "" {
				return nil, fmt.Errorf("failed to set custom headers from DOCKER_CUSTOM_HEADERS environment variable: missing \"=\" or empty key in %q", f)
			}
			headers[k] = v
		}
	}
	return headers, nil
}

func find(o *Options) (Endpoint, error) {
	if len(o.Hosts) > 1 {
		return Endpoint{}, errors.New("specify only one -H")
	}
	if len(o.Hosts) == 1 && o.Context != "" {
		return Endpoint{}, errors.New("conflicting options: cannot specify both --host and --context")
	}
	if len(o.Hosts) == 1 {
		return Endpoint{Host: o.Hosts[0], Context: "default"}, nil
	}
	if o.Context == "" {
		if o.Name == "docker" {
			if h := o.getenv("DOCKER_HOST"); h != "" {
				return Endpoint{Host: h, Context: "default"}, nil
			}
		}
		if h := o.getenv("MUELLE_HOST"); h != "" {
			return Endpoint{Host: h, Context: "default"}, nil
		}
	}
	name, err := o.Contexts().Current(o.Context)
	if err != nil {
		return Endpoint{}, err
	}
	if name != DefaultContext {
		return o.Contexts().endpoint(name)
	}
	// Somebody who wrote "--context default" still named a place.
	return Endpoint{Host: "unix://" + api.DefaultSocket, Context: DefaultContext, Default: o.Context == ""}, nil
}

func normalizeHost(h string) (string, error) {
	h = strings.TrimSpace(h)
	switch {
	case h == "":
		return "", errors.New("the host is empty")
	case strings.HasPrefix(h, "/"):
		return "unix://" + h, nil
	case !strings.Contains(h, "://"):
		h = "tcp://" + h
	}
	if addr, ok := strings.CutPrefix(h, "tcp://"); ok {
		hostport, path, _ := strings.Cut(addr, "/")
		if _, _, err := net.SplitHostPort(hostport); err != nil {
			hostport = net.JoinHostPort(strings.Trim(hostport, "[]"), "2375")
		}
		h = "tcp://" + hostport
		if path != "" {
			h += "/" + path
		}
	}
	return h, nil
}

func (o *Options) tlsConfig() (*tls.Config, error) {
	verify := o.TLSVerify || o.getenv(strings.ToUpper(o.Name)+"_TLS_VERIFY") != ""
	if !verify && !o.TLS {
		return nil, nil
	}
	dir := o.DockerDir()
	if d := o.getenv(strings.ToUpper(o.Name) + "_CERT_PATH"); d != "" {
		dir = d
	}
	pick := func(given, name string) string {
		if given != "" && given != filepath.Join(o.DockerDir(), name) {
			return given
		}
		return filepath.Join(dir, name)
	}
	return loadTLS(pick(o.TLSCACert, "ca.pem"), pick(o.TLSCert, "cert.pem"), pick(o.TLSKey, "key.pem"), !verify)
}

func loadTLS(ca, cert, key string, skipVerify bool) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: skipVerify}
	if pem, err := pemOf(ca); err == nil {
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("no certificate in %s", ca)
		}
	} else if !skipVerify || !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read CA certificate: %w", err)
	}
	pair, err := keyPair(cert, key)
	if errors.Is(err, os.ErrNotExist) {
		return cfg, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load TLS key pair: %w", err)
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

// pemOf is a certificate or key: the text itself, as contexts keep it, or a file's.
func pemOf(s string) ([]byte, error) {
	if strings.Contains(s, "-----BEGIN") {
		return []byte(s), nil
	}
	return os.ReadFile(s)
}

func keyPair(cert, key string) (tls.Certificate, error) {
	c, err := pemOf(cert)
	if err != nil {
		return tls.Certificate{}, err
	}
	k, err := pemOf(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(c, k)
}

// Connect finds the daemon and returns a client that has a daemon to talk to: the
// default one is started when the conditions for that hold.
func Connect(ctx context.Context, o *Options) (*client.Client, error) {
	e, err := Find(o)
	if err != nil {
		return nil, err
	}
	if e.Default {
		if err := ensureDaemon(ctx, o); err != nil {
			return nil, err
		}
	}
	return e.Client()
}

// Explain words an error of talking to the daemon for the user.
func Explain(o *Options, err error) error {
	u := new(client.UnreachableError)
	if !errors.As(err, &u) {
		return err
	}
	if strings.HasPrefix(u.Host, "ssh://") {
		return fmt.Errorf("error during connect: %w", u.Err)
	}
	if o.Name == "docker" && u.Host != "unix://"+api.DefaultSocket {
		//lint:ignore ST1005 Docker's own text
		return fmt.Errorf("Cannot connect to the Docker daemon at %s. Is the docker daemon running?", u.Host)
	}
	if u.Host == "unix://"+api.DefaultSocket {
		return unreachable(u.Host)
	}
	return fmt.Errorf("cannot reach muelled at %s: %w", u.Host, rootCause(u.Err))
}

func unreachable(host string) error {
	return fmt.Errorf("cannot reach muelled at %s: start it (systemctl start muelle) or join group muelle (which equals root)", host)
}

func rootCause(err error) error {
	if op := new(net.OpError); errors.As(err, &op) {
		return op.Err
	}
	return err
}
