package check

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"muelle/api"
	"muelle/internal/probe"
)

const (
	// maxAnswer is how much of an answer's body is read, and maxHead of what comes
	// before it.
	maxAnswer = 64 << 10
	maxHead   = 64 << 10
	// maxShown is how much of it is for people; more is read only to look for something.
	maxShown = 4 << 10
	// maxInterim is how many 1xx answers may come before the one that counts.
	maxInterim = 8
)

// Run makes one probe. The text says what was asked and what came back, for people,
// whether it failed or not. ctx must have a deadline.
func Run(ctx context.Context, p *probe.Config, at Place) (text string, err error) {
	conn, to, err := dial(ctx, p, at)
	what := describe(p, to)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, plain(ctx, err))
	}
	defer conn.Close()
	// What the peer does or leaves undone ends with ctx, also before its deadline.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	switch p.Kind {
	case probe.TCP:
		text = "connected"
	case probe.HTTP:
		text, err = askHTTP(ctx, p, to, conn)
	case probe.GRPC:
		text, err = askGRPC(ctx, p, to, conn)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, plain(ctx, err))
	}
	return what + ": " + text, nil
}

func describe(p *probe.Config, to netip.AddrPort) string {
	switch p.Kind {
	case probe.HTTP:
		scheme := "http"
		if p.TLS {
			scheme = "https"
		}
		return "GET " + scheme + "://" + to.String() + p.Target
	case probe.GRPC:
		return strings.TrimSuffix("grpc health "+to.String()+"/"+p.Service, "/")
	}
	return "tcp " + to.String()
}

// plain takes Go's words off an error. What breaks off at the deadline may look like
// anything.
func plain(ctx context.Context, err error) error {
	var errno syscall.Errno
	var op *net.OpError
	deadline, ok := ctx.Deadline()
	switch {
	case ok && !time.Now().Before(deadline), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	case errors.As(err, &op) && errors.As(err, &errno):
		return errno
	}
	return err
}

func tlsConfig(p *probe.Config, alpn string) *tls.Config {
	name := p.Host
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	//nolint:gosec // the peer is the container itself, reached in its own namespace
	return &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{alpn}}
}

func askHTTP(ctx context.Context, p *probe.Config, to netip.AddrPort, conn net.Conn) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+to.String()+p.Target, nil)
	if err != nil {
		return "", err
	}
	req.Host, req.Close = p.Host, true
	req.Header.Set("User-Agent", "muelle-health/"+api.Version)
	req.Header.Set("Accept", "*/*")
	for _, h := range p.Headers {
		req.Header.Add(h[0], h[1])
	}
	if p.TLS {
		secure := tls.Client(conn, tlsConfig(p, "http/1.1"))
		if err := secure.HandshakeContext(ctx); err != nil {
			return "", err
		}
		conn = secure
	}
	if err := req.Write(conn); err != nil {
		return "", err
	}
	resp, err := readHead(conn, req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	most := int64(maxShown)
	if p.Body != "" || p.Match != nil {
		most = maxAnswer
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	return judge(p, resp, body, err)
}

// readHead reads until the final answer's headers.
func readHead(conn net.Conn, req *http.Request) (*http.Response, error) {
	limited := &io.LimitedReader{R: conn, N: maxHead}
	r := bufio.NewReaderSize(limited, 4<<10)
	for range maxInterim {
		resp, err := http.ReadResponse(r, req)
		if err != nil {
			if limited.N <= 0 {
				return nil, fmt.Errorf("headers larger than %d KiB", maxHead>>10)
			}
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				return nil, errors.New("the connection was closed without an answer")
			}
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			limited.N = maxAnswer + maxHead // chunk sizes and trailers included
			return resp, nil
		}
	}
	return nil, errors.New("too many interim answers")
}

// judge says whether an answer is the expected one. A body that breaks off counts
// only where it is asked for.
func judge(p *probe.Config, resp *http.Response, body []byte, readErr error) (string, error) {
	text := resp.Status
	if len(body) > 0 {
		text += "\n" + string(bytes.ToValidUTF8(body[:min(len(body), maxShown)], []byte("\uFFFD")))
	}
	ok := false
	for _, r := range p.Status {
		ok = ok || r.From <= resp.StatusCode && resp.StatusCode <= r.To
	}
	wanted := p.Body != "" || p.Match != nil
	switch {
	case !ok:
		return "", errors.New(text)
	case readErr != nil && wanted:
		return "", fmt.Errorf("read the body: %w", readErr)
	case p.Body != "" && !bytes.Contains(body, []byte(p.Body)):
		return "", fmt.Errorf("the body does not contain %q: %s", p.Body, text)
	case p.Match != nil && !p.Match.Match(body):
		return "", fmt.Errorf("the body does not match %q: %s", p.Match, text)
	}
	return text, nil
}

// askGRPC asks grpc.health.v1.Health/Check.
func askGRPC(ctx context.Context, p *probe.Config, to netip.AddrPort, conn net.Conn) (string, error) {
	creds := insecure.NewCredentials()
	if p.TLS {
		creds = credentials.NewTLS(tlsConfig(p, "h2"))
	}
	var used atomic.Bool
	cc, err := grpc.NewClient("passthrough:///"+to.String(),
		grpc.WithTransportCredentials(creds), grpc.WithNoProxy(), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
		grpc.WithMaxHeaderListSize(maxHead), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
		grpc.WithReadBufferSize(4<<10), grpc.WithWriteBufferSize(4<<10), grpc.WithUserAgent("muelle-health/"+api.Version),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if used.Swap(true) {
				return nil, errors.New("the connection was closed")
			}
			return conn, nil
		}))
	if err != nil {
		return "", err
	}
	defer cc.Close()
	r, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{Service: p.Service})
	switch code := status.Code(err); {
	case code == codes.Unimplemented:
		return "", errors.New("the server does not offer grpc.health.v1.Health")
	case code == codes.NotFound:
		return "", fmt.Errorf("the server does not know the service %q", p.Service)
	case code == codes.DeadlineExceeded:
		return "", context.DeadlineExceeded
	case err != nil:
		return "", errors.New(status.Convert(err).Message())
	case r.GetStatus() != healthpb.HealthCheckResponse_SERVING:
		return "", errors.New(r.GetStatus().String())
	}
	return r.GetStatus().String(), nil
}
