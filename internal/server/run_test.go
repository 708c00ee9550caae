package server_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	containertypes "github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/server"
)

// cat is a container that copies its input to its output and then exits with 3.
func cat(tty bool, startErr error) containers {
	started := make(chan struct{})
	exited := make(chan struct{})
	attach := echo(tty)
	return containers{
		create: func(o container.CreateOptions) (containertypes.CreateResponse, error) {
			if o.Config.Image == "none" {
				return containertypes.CreateResponse{}, errdefs.ErrNotFound.WithMessage("No such image: none:latest")
			}
			return containertypes.CreateResponse{ID: "cafe", Warnings: []string{"odd\r\nwarning"}}, nil
		},
		start: func(context.Context, string) error {
			if startErr != nil {
				return startErr
			}
			close(started)
			return nil
		},
		attach: func(ctx context.Context, ref string, o container.AttachOptions) error {
			defer close(exited)
			return attach(ctx, ref, o)
		},
		wait: func(context.Context, string, containertypes.WaitCondition) (func(context.Context) (containertypes.WaitResponse, error), error) {
			return func(context.Context) (containertypes.WaitResponse, error) {
				<-started
				<-exited
				return containertypes.WaitResponse{StatusCode: 3}, nil
			}, nil
		},
	}
}

// frames reads a run's stream.
func frames(t *testing.T, r io.Reader) (out map[byte]string, result *api.RunResult) {
	t.Helper()
	out = map[byte]string{}
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return out, result
		} else if err != nil {
			t.Fatal(err)
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[4:]))
		if _, err := io.ReadFull(r, payload); err != nil {
			t.Fatal(err)
		}
		if result != nil {
			t.Fatal("a frame after the last one")
		}
		if head[0] == api.RunFrame {
			result = &api.RunResult{}
			if err := json.Unmarshal(payload, result); err != nil {
				t.Fatal(err)
			}
			continue
		}
		out[head[0]] += string(payload)
	}
}

func TestRun(t *testing.T) {
	for _, tc := range []struct {
		name, body, typed string
		tty               bool
		out               map[byte]string
		result            api.RunResult
	}{
		{"pipes", `{"Config":{"Image":"a"},"Stdin":true,"Stdout":true,"Stderr":true}`, "hello", false,
			map[byte]string{1: "hello", 2: "bye"}, api.RunResult{ExitCode: 3}},
		{"terminal", `{"Config":{"Image":"a","Tty":true},"Stdin":true,"Stdout":true,"Stderr":true}`, "hello", true,
			map[byte]string{1: "hello"}, api.RunResult{ExitCode: 3}},
		{"detach", `{"Config":{"Image":"a","Tty":true},"Stdin":true,"Stdout":true,"DetachKeys":"ctrl-x"}`, "hel\x18lo", true,
			map[byte]string{1: "hel"}, api.RunResult{Detached: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := serve(t, server.Options{Containers: cat(tc.tty, nil)})
			c, r, res := h.upgrade("/muelle/v1/run", "tcp", tc.body)
			if res.StatusCode != 101 || res.Header.Get(api.HeaderContainerID) != "cafe" || res.Header.Get(api.HeaderWarning) != "odd warning" {
				t.Errorf("%s %v", res.Status, res.Header)
			}
			if _, err := io.WriteString(c, tc.typed); err != nil {
				t.Fatal(err)
			}
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			out, result := frames(t, r)
			if diff := cmp.Diff(tc.out, out); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(&tc.result, result); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	for _, tc := range []struct {
		name, body, stage, id, message string
		status                         int
	}{
		{"create", `{"Config":{"Image":"none"}}`, "create", "", "No such image: none:latest", 404},
		{"start", `{"Config":{"Image":"a"},"Stdin":true,"Stdout":true}`, "start", "cafe", "port is taken", 409},
		{"start detached", `{"Config":{"Image":"a"},"Detach":true}`, "start", "cafe", "port is taken", 409},
		{"no config", `{}`, "", "", "config cannot be empty in order to create a container", 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := serve(t, server.Options{Containers: cat(false, errdefs.ErrConflict.WithMessage("port is taken"))})
			_, r, res := h.upgrade("/muelle/v1/run", "tcp", tc.body)
			var body bytes.Buffer
			if _, err := io.CopyN(&body, r, res.ContentLength); err != nil {
				t.Fatal(err)
			}
			got := []any{res.StatusCode, res.Header.Get(api.HeaderRunStage), res.Header.Get(api.HeaderContainerID), message(t, body.String())}
			if diff := cmp.Diff([]any{tc.status, tc.stage, tc.id, tc.message}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRunDetached(t *testing.T) {
	h := serve(t, server.Options{Containers: cat(false, nil)})
	res, body := h.do("POST", "/muelle/v1/run", "application/json", `{"Config":{"Image":"a"},"Detach":true}`)
	if res.StatusCode != 200 || body != `{"Id":"cafe","Warnings":["odd\r\nwarning"]}`+"\n" {
		t.Errorf("%s %s", res.Status, body)
	}
}
