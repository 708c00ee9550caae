package logopt

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"muelle/internal/logdriver"
	"muelle/internal/logdriver/secure"
)

const (
	overTLS     = "tcp+tls"
	defaultPort = "514"
	// lookupPatience bounds the name service at a container's start.
	lookupPatience = 5 * time.Second
)

// facilities of syslog, by name; the numbers are RFC 5424's, table 1.
var facilities = map[string]int{
	"kern": 0, "user": 1, "mail": 2, "daemon": 3, "auth": 4, "syslog": 5, "lpr": 6, "news": 7, "uucp": 8, "cron": 9,
	"authpriv": 10, "ftp": 11, "local0": 16, "local1": 17, "local2": 18, "local3": 19, "local4": 20, "local5": 21,
	"local6": 22, "local7": 23,
}

// localSockets are where a syslog server of this machine listens.
var localSockets = []string{"/dev/log", "/var/run/syslog", "/var/run/log"}

// syslog is a server and how it is spoken to.
type syslog struct {
	network  string // empty: this machine's
	address  string // HOST:PORT or a path
	server   secure.Server
	facility int
	format   logdriver.Format
}

// parseSyslog reads the options as Docker does, at the container's creation.
func parseSyslog(opts map[string]string) (s syslog, err error) {
	if s.network, s.address, err = parseAddress(opts["syslog-address"]); err != nil {
		return s, err
	}
	if s.facility, err = parseFacility(opts["syslog-facility"]); err != nil {
		return s, err
	}
	if s.network == overTLS {
		if s.server, err = parseTLS(s.address, opts); err != nil {
			return s, err
		}
	}
	switch opts["syslog-format"] {
	case "":
	case "rfc3164":
		s.format = logdriver.FormatRFC3164
	case "rfc5424":
		s.format = logdriver.FormatRFC5424
	case "rfc5424micro":
		s.format = logdriver.FormatRFC5424Micro
	default:
		return s, invalid("invalid syslog format")
	}
	return s, nil
}

func parseAddress(text string) (network, address string, err error) {
	if text == "" {
		return "", "", nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", "", invalid("%s", err)
	}
	switch u.Scheme {
	case "unix", "unixgram":
		if _, err := os.Stat(u.Path); err != nil {
			return "", "", invalid("%s", err)
		}
		return u.Scheme, u.Path, nil
	case "udp", "tcp", overTLS:
	default:
		return "", "", invalid("unsupported scheme: '%s'", u.Scheme)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		if !strings.Contains(err.Error(), "missing port in address") {
			return "", "", invalid("%s", err)
		}
		return u.Scheme, net.JoinHostPort(strings.Trim(u.Host, "[]"), defaultPort), nil
	}
	return u.Scheme, u.Host, nil
}

// parseTLS reads what proves who the server is, and who we are. Docker skips the
// verification with any value of syslog-tls-skip-verify, also "false".
func parseTLS(address string, opts map[string]string) (secure.Server, error) {
	s := secure.Server{Address: address, CA: opts["syslog-tls-ca-cert"], Cert: opts["syslog-tls-cert"], Key: opts["syslog-tls-key"]}
	if v, given := opts["syslog-tls-skip-verify"]; given {
		skip, err := strconv.ParseBool(v)
		if err != nil && v != "" {
			return s, invalid("invalid value for option syslog-tls-skip-verify: %s", v)
		}
		s.SkipVerify = skip || v == ""
	}
	for _, path := range []string{s.CA, s.Cert, s.Key} {
		if path != "" && !filepath.IsAbs(path) {
			return s, invalid("syslog-tls: %s is not an absolute path", path)
		}
	}
	if _, err := s.Config(); err != nil {
		return s, invalid("failed to initialize logging driver: %s", err)
	}
	return s, nil
}

func parseFacility(text string) (int, error) {
	if text == "" {
		text = "daemon"
	}
	n, ok := facilities[text]
	if !ok {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 0 || n > 23 {
			return 0, invalid("invalid syslog facility")
		}
	}
	return n << 3, nil
}

// remote finds the server: names are looked up by the daemon, since the shim, which
// writes, is kept too small for that.
func (s syslog) remote(ctx context.Context, tag, helper string) (logdriver.Remote, error) {
	r := logdriver.Remote{Kind: "syslog", Network: s.network, Format: s.format, Facility: s.facility, Tag: tag}
	var err error
	if r.Hostname, err = os.Hostname(); err != nil {
		return r, fmt.Errorf("read the host's name: %w", err)
	}
	switch s.network {
	case "":
		return s.local(r)
	case "unix", "unixgram":
		r.Path = s.address
		return r, nil
	case overTLS:
		// The program looks names up itself, for each connection.
		r.Helper = append([]string{helper}, s.server.Args()...)
		r.Framed = s.format == logdriver.FormatRFC5424 || s.format == logdriver.FormatRFC5424Micro
		return r, nil
	}
	addr, err := lookup(ctx, s.network, s.address)
	if err != nil {
		return r, fmt.Errorf("failed to initialize logging driver: %w", err)
	}
	r.Addr, r.Port = addr.Addr().AsSlice(), addr.Port()
	if zone := addr.Addr().Zone(); zone != "" {
		link, err := net.InterfaceByName(zone)
		if err != nil {
			return r, fmt.Errorf("failed to initialize logging driver: %w", err)
		}
		r.Zone = uint32(link.Index)
	}
	return r, nil
}

// local finds this machine's server.
func (s syslog) local(r logdriver.Remote) (logdriver.Remote, error) {
	for _, path := range localSockets {
		for _, network := range []string{"unixgram", "unix"} {
			conn, err := net.Dial(network, path)
			if err == nil {
				conn.Close()
				r.Network, r.Path = network, path
				return r, nil
			}
		}
	}
	return r, invalid("failed to initialize logging driver: Unix syslog delivery error: no syslog server listens on %s", strings.Join(localSockets, ", "))
}

func lookup(ctx context.Context, network, address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, lookupPatience)
	defer cancel()
	number, err := net.DefaultResolver.LookupPort(ctx, network, port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		host = "127.0.0.1"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for _, a := range addrs { // as Go dials: IPv4 first where there is one
		if a.Unmap().Is4() {
			return netip.AddrPortFrom(a.Unmap(), uint16(number)), nil
		}
	}
	return netip.AddrPortFrom(addrs[0], uint16(number)), nil
}
