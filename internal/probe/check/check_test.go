package check_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"muelle/internal/probe"
	"muelle/internal/probe/check"
)

func run(t *testing.T, kind probe.Kind, target string) (string, error) {
	t.Helper()
	p, err := probe.Parse(kind, target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return check.Run(ctx, p, check.Place{})
}

func TestHTTP(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "all is well") })
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", r.Host, r.Header.Get("X-A"), r.UserAgent())
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/followed", http.StatusFound) })
	mux.HandleFunc("/followed", func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
	mux.HandleFunc("/down", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no database", http.StatusServiceUnavailable)
	})
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", 64<<10), "behind")
	})
	plain := httptest.NewServer(mux)
	defer plain.Close()
	secure := httptest.NewTLSServer(mux)
	defer secure.Close()
	tests := []struct {
		in, text, err string
	}{
		{"/ok", "200 OK\nall is well", ""},
		{"/ok,body=is well", "200 OK", ""},
		{"/ok,match=^all.*l$", "200 OK", ""},
		{"/ok,body=is bad", "", `the body does not contain "is bad": 200 OK`},
		{"/ok,match=^x", "", `the body does not match "^x"`},
		{"/ok,status=204", "", "200 OK"},
		{"/headers,header=x-a: b,host=web.test", "web.test b muelle-health/", ""},
		{"/away", "302 Found", ""},
		{"/away,status=200", "", "302 Found"},
		{"/down", "", "503 Service Unavailable\nno database"},
		{"/large", "200 OK\nxxx", ""},
		{"/large,body=behind", "", "does not contain"},
	}
	for _, server := range []*httptest.Server{plain, secure} {
		for _, tt := range tests {
			text, err := run(t, probe.HTTP, server.URL+tt.in)
			switch {
			case tt.err == "" && (err != nil || !strings.Contains(text, tt.text)):
				t.Errorf("%s: %.200q, %v, want %q", tt.in, text, err, tt.text)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("%s: %.200q, %v, want %q", tt.in, text, err, tt.err)
			}
		}
	}
}

// hostile serves each connection by f.
func hostile(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
					f(c)
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestHostileServers(t *testing.T) {
	forever := func(s string) func(net.Conn) {
		return func(c net.Conn) {
			for {
				if _, err := io.WriteString(c, s); err != nil {
					return
				}
			}
		}
	}
	tests := map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"endless headers": {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\n"); forever("X-A: b\r\n")(c) }, "headers larger than 64 KiB"},
		"endless line":    {forever("x"), "headers larger than 64 KiB"},
		"endless interim": {forever("HTTP/1.1 100 Continue\r\n\r\n"), "too many interim answers"},
		"no answer":       {func(net.Conn) {}, "closed without an answer"},
		"not HTTP":        {func(c net.Conn) { io.WriteString(c, "220 mail\r\n") }, "malformed"},
		"broken body":     {func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok") }, "read the body"},
	}
	for name, tt := range tests {
		if _, err := run(t, probe.HTTP, hostile(t, tt.serve)+"/,body=up"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	// An endless body is cut, and what came first counts.
	at := hostile(t, func(c net.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nup"); forever("x")(c) })
	if _, err := run(t, probe.HTTP, at+"/,body=up"); err != nil {
		t.Error(err)
	}
}

func TestEndsWithItsTime(t *testing.T) {
	// A server that says a byte now and then is never silent.
	at := hostile(t, func(c net.Conn) {
		for tick := time.NewTicker(5 * time.Millisecond); ; <-tick.C {
			if _, err := io.WriteString(c, "H"); err != nil {
				return
			}
		}
	})
	for _, kind := range []probe.Kind{probe.HTTP, probe.GRPC} {
		p, err := probe.Parse(kind, at)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err = check.Run(ctx, p, check.Place{})
		cancel()
		if kind == probe.HTTP && !errors.Is(err, context.DeadlineExceeded) || err == nil {
			t.Errorf("%s: %v, want the deadline's", kind, err)
		}
	}
}

func TestTCP(t *testing.T) {
	at := hostile(t, func(net.Conn) {})
	if text, err := run(t, probe.TCP, at); err != nil || text != "tcp "+at+": connected" {
		t.Errorf("%q, %v", text, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at = l.Addr().String()
	l.Close()
	if _, err := run(t, probe.TCP, at); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v, want a refusal", err)
	}
	_, port, _ := net.SplitHostPort(at)
	if _, err := run(t, probe.TCP, port); err == nil || !strings.Contains(err.Error(), "nothing listens on port "+port+" of the container") {
		t.Errorf("%v, want a refusal", err)
	}
}

func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(), health.NewServer()
	healthpb.RegisterHealthServer(s, h)
	go s.Serve(l)
	defer s.Stop()
	h.SetServingStatus("down", healthpb.HealthCheckResponse_NOT_SERVING)
	if text, err := run(t, probe.GRPC, l.Addr().String()); err != nil || !strings.HasSuffix(text, ": SERVING") {
		t.Errorf("%q, %v", text, err)
	}
	for service, want := range map[string]string{"down": "NOT_SERVING", "else": `does not know the service "else"`} {
		if _, err := run(t, probe.GRPC, l.Addr().String()+"/"+service); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", service, err, want)
		}
	}
	bare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	without := grpc.NewServer()
	go without.Serve(bare)
	defer without.Stop()
	if _, err := run(t, probe.GRPC, bare.Addr().String()); err == nil || !strings.Contains(err.Error(), "does not offer grpc.health.v1.Health") {
		t.Errorf("%v", err)
	}
}
