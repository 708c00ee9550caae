// Package probe describes health checks that the engine makes itself, in a
// container's network namespace: HTTP, TCP and gRPC targets as flags, labels and
// Compose files write them. It dials nobody; the folder check does.
package probe

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"net/netip"
	"net/textproto"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Kind is the protocol of a probe.
type Kind string

// The kinds of probes, as the ends of their flags and labels.
const (
	HTTP Kind = "http"
	TCP  Kind = "tcp"
	GRPC Kind = "grpc"
)

// maxValue bounds what is parsed: labels come from strangers' images.
const maxValue = 8 << 10

// Config is one probe.
type Config struct {
	Kind Kind
	// Addr is where to connect; the zero value means the container itself.
	Addr netip.Addr
	Port uint16
	// TLS: https, or gRPC over TLS. Certificates are not verified: the peer is the
	// container itself.
	TLS bool

	// Target is the path and query of an HTTP request.
	Target string
	// Host is the Host header and the name asked for in TLS; empty: address and port.
	Host    string
	Headers [][2]string
	// Status are the accepted ones.
	Status []StatusRange
	// Body must be part of the answer's first 64 KiB, Match must match in it.
	Body  string
	Match *regexp.Regexp

	// Service is that of the gRPC health request; empty: the whole server.
	Service string
}

// StatusRange holds both ends.
type StatusRange struct{ From, To int }

// Parse reads a target:
//
//	http: [http[s]://][ADDRESS][:PORT][/PATH][?QUERY][,status=200-299][,body=TEXT][,match=REGEXP][,header=NAME: VALUE][,host=NAME]
//	tcp:  [ADDRESS:]PORT
//	grpc: [ADDRESS:]PORT[/SERVICE][,tls=true]
//
// Fields are separated and quoted as in CSV.
func Parse(kind Kind, value string) (*Config, error) {
	if len(value) > maxValue {
		return nil, fmt.Errorf("%s health check: longer than %d bytes", kind, maxValue)
	}
	c := &Config{Kind: kind}
	var err error
	switch kind {
	case HTTP:
		err = c.parseHTTP(value)
	case TCP:
		err = c.parseAddress(value)
	case GRPC:
		err = c.parseGRPC(value)
	default:
		return nil, fmt.Errorf("unknown kind of health check %q", kind)
	}
	if err != nil {
		return nil, fmt.Errorf("%s health check %q: %w", kind, value, err)
	}
	return c, nil
}

// fields splits a value and checks that each but the first has a key.
func fields(value string) (first string, options [][2]string, err error) {
	r := csv.NewReader(strings.NewReader(value))
	r.LazyQuotes = true
	all, err := r.Read()
	if err != nil {
		return "", nil, errors.New("empty or badly quoted")
	}
	if _, err := r.Read(); err == nil {
		return "", nil, errors.New("more than one line")
	}
	for _, f := range all[1:] {
		k, v, ok := strings.Cut(f, "=")
		if !ok || v == "" {
			return "", nil, fmt.Errorf("%q is not KEY=VALUE", f)
		}
		options = append(options, [2]string{strings.TrimSpace(k), v})
	}
	return strings.TrimSpace(all[0]), options, nil
}

func (c *Config) parseHTTP(value string) error {
	at, options, err := fields(value)
	if err != nil {
		return err
	}
	if err := c.parseURL(at); err != nil {
		return err
	}
	for _, o := range options {
		if err := c.httpOption(o[0], o[1]); err != nil {
			return err
		}
	}
	if len(c.Status) == 0 {
		c.Status = []StatusRange{{200, 399}}
	}
	return nil
}

// portFirst tells 8080/x from 127.0.0.1/x.
func portFirst(at string) bool {
	if i := strings.IndexAny(at, "/?"); i >= 0 {
		at = at[:i]
	}
	return at != "" && strings.Trim(at, "0123456789") == ""
}

func (c *Config) parseURL(at string) error {
	if portFirst(at) {
		at = ":" + at
	}
	if !strings.Contains(at, "://") {
		at = "http://" + at
	}
	u, err := url.Parse(at)
	if err != nil {
		return errors.New("not a URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("scheme %q is neither http nor https", u.Scheme)
	case u.User != nil:
		return errors.New("user and password belong into a header (header=Authorization: …)")
	case u.Fragment != "":
		return errors.New("a fragment is never sent")
	}
	c.TLS, c.Port = u.Scheme == "https", 80
	if c.TLS {
		c.Port = 443
	}
	if u.Port() != "" {
		if c.Port, err = parsePort(u.Port()); err != nil {
			return err
		}
	}
	c.Target = u.RequestURI()
	if strings.ContainsFunc(c.Target, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return errors.New("blanks and control characters must be written as %20 and the like")
	}
	return c.parseHost(u.Hostname())
}

func (c *Config) httpOption(key, value string) error {
	switch key {
	case "status":
		r, err := parseStatus(value)
		if err != nil {
			return err
		}
		c.Status = append(c.Status, r)
	case "body":
		c.Body = value
	case "match":
		re, err := regexp.Compile(value)
		if err != nil {
			return err
		}
		c.Match = re
	case "host":
		if !httpguts.ValidHostHeader(value) {
			return fmt.Errorf("%q is not a host name", value)
		}
		c.Host = value
	case "header":
		name, v, ok := strings.Cut(value, ":")
		v = strings.TrimSpace(v)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(v) {
			return fmt.Errorf("%q is not a header, NAME: VALUE", value)
		}
		switch name = textproto.CanonicalMIMEHeaderKey(name); name {
		case "Host":
			return errors.New("the Host header is host=NAME")
		case "Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Expect":
			return fmt.Errorf("the header %s is the engine's own", name)
		}
		c.Headers = append(c.Headers, [2]string{name, v})
	default:
		return fmt.Errorf("unknown option %q (there are status, body, match, header, host)", key)
	}
	return nil
}

func parseStatus(s string) (StatusRange, error) {
	a, b, ok := strings.Cut(s, "-")
	if !ok {
		b = a
	}
	from, err1 := strconv.Atoi(a)
	to, err2 := strconv.Atoi(b)
	if err1 != nil || err2 != nil || from < 100 || to > 599 || from > to {
		return StatusRange{}, fmt.Errorf("%q is not a status or a range such as 200-299", s)
	}
	return StatusRange{from, to}, nil
}

func (c *Config) parseGRPC(value string) error {
	at, options, err := fields(value)
	if err != nil {
		return err
	}
	at, c.Service, _ = strings.Cut(at, "/")
	for _, o := range options {
		if o[0] != "tls" {
			return fmt.Errorf("unknown option %q (there is tls)", o[0])
		}
		if c.TLS, err = strconv.ParseBool(o[1]); err != nil {
			return fmt.Errorf("tls=%s is neither true nor false", o[1])
		}
	}
	return c.parseAddress(at)
}

// parseAddress reads [ADDRESS:]PORT.
func (c *Config) parseAddress(at string) error {
	host, port := "", at
	if i := strings.LastIndexByte(at, ':'); i >= 0 {
		host, port = strings.Trim(at[:i], "[]"), at[i+1:]
	}
	var err error
	if c.Port, err = parsePort(port); err != nil {
		return err
	}
	return c.parseHost(host)
}

func (c *Config) parseHost(host string) error {
	if host == "" || host == "localhost" {
		return nil
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return fmt.Errorf("%q is not an IP address: the engine asks the container itself and resolves no names (for the Host header there is host=NAME)", host)
	}
	c.Addr = addr
	return nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return uint16(n), nil
}

// Join writes a target and its options as Parse reads them.
func Join(at string, options [][2]string) string {
	record := []string{at}
	for _, o := range options {
		record = append(record, o[0]+"="+o[1])
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(record) // into memory
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}
