package server_test

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/websocket"

	"muelle/internal/server"
)

// websocket opens path; input that the client ends by WriteClose.
func (h *host) websocket(path string) *websocket.Conn {
	h.t.Helper()
	conn, err := net.Dial("unix", h.socket)
	if err != nil {
		h.t.Fatal(err)
	}
	cfg, err := websocket.NewConfig("ws://muelle"+path, "http://elsewhere")
	if err != nil {
		h.t.Fatal(err)
	}
	ws, err := websocket.NewClient(cfg, conn)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { ws.Close() })
	ws.PayloadType = websocket.BinaryFrame
	return ws
}

// TestWebsocketCarriesEveryByte, and what comes after the client has ended its input.
func TestWebsocketCarriesEveryByte(t *testing.T) {
	for _, path := range []string{
		"/v1.44/containers/x/attach/ws?stream=1&stdin=1&stdout=1&stderr=1",
		"/v1.41/containers/x/attach/ws?stream=1", // all streams before 1.42
	} {
		h := serve(t, server.Options{Containers: containers{attach: echo(false)}})
		ws := h.websocket(path)
		sent := make([]byte, 4<<20)
		rand.Read(sent)
		go func() {
			_, _ = ws.Write(sent)
			_ = ws.WriteClose(1000)
		}()
		got, err := io.ReadAll(ws)
		if err != nil {
			t.Fatal(err)
		}
		if want := append(sent, "bye"...); !bytes.Equal(want, got) {
			t.Errorf("%s: got %d bytes of %d, or others", path, len(got), len(want))
		}
	}
}

func TestWebsocketDetachKeys(t *testing.T) {
	h := serve(t, server.Options{Containers: containers{attach: echo(true)}})
	ws := h.websocket("/v1.44/containers/x/attach/ws?stream=1&stdin=1&stdout=1&detachKeys=ctrl-x")
	if _, err := ws.Write([]byte("a\x18b")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(ws); string(got) != "a" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWebsocketRefusals(t *testing.T) {
	h := serve(t, server.Options{Containers: containers{attach: echo(false)}})
	for _, tc := range []struct {
		name, head string
		status     int
		text       string
	}{
		{"no upgrade", "", 400, "this endpoint speaks websocket"},
		{"no key", "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", 400, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res, body := h.raw("GET /v1.44/containers/x/attach/ws?stream=1&stdin=1 HTTP/1.1\r\nHost: m\r\n" + tc.head + "\r\n")
			if res.StatusCode != tc.status || !strings.Contains(body, tc.text) {
				t.Errorf("%s: %s", res.Status, body)
			}
		})
	}
}

// TestWebsocketOrigin: over TCP, a page of another site does not reach a container.
func TestWebsocketOrigin(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, server.Options{Containers: containers{attach: echo(false)}}, l)
	for origin, want := range map[string]int{
		"":                            http.StatusSwitchingProtocols,
		"http://" + l.Addr().String(): http.StatusSwitchingProtocols,
		"https://evil.example":        http.StatusForbidden,
		"null":                        http.StatusForbidden,
	} {
		req, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/v1.44/containers/x/attach/ws?stream=1&stdin=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-WebSocket-Version": {"13"}, "Sec-WebSocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("origin %q: %s", origin, res.Status)
		}
	}
}
