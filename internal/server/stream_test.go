package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/pkg/stdcopy"
	containertypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container"
	"muelle/internal/server"
)

// upgrade sends a request that takes the connection over.
func (h *host) upgrade(path, upgrade, body string) (*net.UnixConn, *bufio.Reader, *http.Response) {
	h.t.Helper()
	c, err := net.Dial("unix", h.socket)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	head := "POST " + path + " HTTP/1.1\r\nHost: muelle\r\nContent-Type: application/json\r\n"
	if upgrade != "" {
		head += "Connection: Upgrade\r\nUpgrade: " + upgrade + "\r\n"
	}
	if _, err := fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body); err != nil {
		h.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return c.(*net.UnixConn), r, res
}

// echo attaches a process that copies its input to its output and says "bye" on
// standard error.
func echo(tty bool) func(ctx context.Context, ref string, o container.AttachOptions) error {
	return func(ctx context.Context, _ string, o container.AttachOptions) error {
		s, err := o.Open(tty)
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		go func() {
			_, err := io.Copy(s.Stdout, s.Stdin)
			if s.Stderr != nil {
				_, _ = io.WriteString(s.Stderr, "bye")
			}
			done <- err
		}()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestAttachHandshake(t *testing.T) {
	for _, tc := range []struct {
		name, version, upgrade, body string
		tty                          bool
		status                       int
		contentType                  string
	}{
		{"upgrade", "1.44", "tcp", "", false, 101, "application/vnd.docker.multiplexed-stream"},
		{"upgrade before 1.42", "1.41", "tcp", "", false, 101, "application/vnd.docker.raw-stream"},
		{"upgrade with terminal", "1.44", "tcp", "", true, 101, "application/vnd.docker.raw-stream"},
		{"without upgrade", "1.44", "", "", false, 200, "application/vnd.docker.raw-stream"},
		{"with a body, which is not the stream's", "1.44", "tcp", `{"stream":true}`, true, 101, "application/vnd.docker.raw-stream"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := serve(t, server.Options{Containers: containers{attach: echo(tc.tty)}})
			c, r, res := h.upgrade("/v"+tc.version+"/containers/x/attach?stream=1&stdin=1&stdout=1&stderr=1", tc.upgrade, tc.body)
			if res.StatusCode != tc.status || res.Header.Get("Content-Type") != tc.contentType {
				t.Errorf("%s, %s", res.Status, res.Header.Get("Content-Type"))
			}
			if _, err := io.WriteString(c, "hello"); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			var stdout, stderr bytes.Buffer
			var err error
			if tc.tty {
				_, err = io.Copy(&stdout, r)
			} else {
				_, err = stdcopy.StdCopy(&stdout, &stderr, r)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := "bye"
			if tc.tty {
				want = ""
			}
			if stdout.String() != "hello" || stderr.String() != want {
				t.Errorf("stdout %q, stderr %q", &stdout, &stderr)
			}
		})
	}
}

func TestAttachCarriesEveryByte(t *testing.T) {
	h := serve(t, server.Options{Containers: containers{attach: echo(false)}})
	c, r, _ := h.upgrade("/v1.44/containers/x/attach?stream=1&stdin=1&stdout=1&stderr=1", "tcp", "")
	sent := make([]byte, 16<<20)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	var got bytes.Buffer
	if _, err := stdcopy.StdCopy(&got, io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent, got.Bytes()) {
		t.Errorf("got %d bytes of %d, or others", got.Len(), len(sent))
	}
}

// A client that throws away what it read together with the head, as docker-py does,
// loses nothing.
func TestOutputWaitsForTheHead(t *testing.T) {
	h := serve(t, server.Options{Containers: containers{attach: func(_ context.Context, _ string, o container.AttachOptions) error {
		s, err := o.Open(true)
		if err != nil {
			return err
		}
		_, err = io.WriteString(s.Stdout, "first")
		return err
	}}})
	c, err := net.Dial("unix", h.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /v1.44/containers/x/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 8192)
	n, err := c.Read(head)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(head[:n]), "\r\n\r\n") {
		t.Errorf("read %q", head[:n])
	}
	rest, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if string(rest) != "first" {
		t.Errorf("then read %q", rest)
	}
}

func TestDetachKeys(t *testing.T) {
	for _, tc := range []struct{ name, keys, typed, want string }{
		{"default", "", "ls\x10\x11more", "ls"},
		{"first key alone", "", "a\x10b\x10\x11", "a\x10b"},
		{"first key twice", "", "a\x10\x10\x11", "a\x10"},
		{"custom", "ctrl-a,b", "x\x01b", "x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			causes := make(chan error, 1)
			attach := echo(true)
			h := serve(t, server.Options{Containers: containers{attach: func(ctx context.Context, ref string, o container.AttachOptions) error {
				err := attach(ctx, ref, o)
				causes <- context.Cause(ctx)
				return err
			}}})
			c, r, _ := h.upgrade("/v1.44/containers/x/attach?stream=1&stdin=1&stdout=1&detachKeys="+tc.keys, "tcp", "")
			if _, err := io.WriteString(c, tc.typed); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil && !errors.Is(err, net.ErrClosed) {
				t.Logf("read: %v", err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Error(diff)
			}
			if cause := <-causes; cause == nil || cause.Error() != "detached" {
				t.Errorf("cause %v", cause)
			}
		})
	}
}

func TestAttachEndsWithTheClient(t *testing.T) {
	for _, stdin := range []string{"0", "1"} {
		t.Run("stdin="+stdin, func(t *testing.T) {
			causes := make(chan error, 1)
			h := serve(t, server.Options{Containers: containers{attach: func(ctx context.Context, _ string, o container.AttachOptions) error {
				s, err := o.Open(false)
				if err != nil {
					return err
				}
				if s.Stdin != nil {
					_, _ = io.Copy(io.Discard, s.Stdin)
				}
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return ctx.Err()
			}}})
			c, _, _ := h.upgrade("/v1.44/containers/x/attach?stream=1&stdout=1&stdin="+stdin, "tcp", "")
			// A half-close is the end of the input, not of the client.
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			select {
			case cause := <-causes:
				t.Fatalf("half-close ended the attachment: %v", cause)
			default:
			}
			c.Close()
			if cause := <-causes; cause == nil || cause.Error() != "client disconnected" {
				t.Errorf("cause %v", cause)
			}
		})
	}
}

func TestWaitAnswersAtOnce(t *testing.T) {
	exit := make(chan struct{})
	h := serve(t, server.Options{Containers: containers{wait: func(_ context.Context, _ string, c containertypes.WaitCondition) (func(context.Context) (containertypes.WaitResponse, error), error) {
		if c != containertypes.WaitConditionNextExit {
			t.Errorf("condition %q", c)
		}
		return func(context.Context) (containertypes.WaitResponse, error) {
			<-exit
			return containertypes.WaitResponse{StatusCode: 3}, nil
		}, nil
	}}})
	res, err := h.client.Post("http://muelle/v1.44/containers/x/wait?condition=next-exit", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	close(exit) // only now: the headers came before the exit
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(`{"StatusCode":3}`, strings.TrimSpace(string(body))); diff != "" {
		t.Error(diff)
	}
}
