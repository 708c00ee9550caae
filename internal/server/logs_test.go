package server_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/pkg/stdcopy"

	"muelle/internal/container"
	"muelle/internal/logdriver"
	"muelle/internal/server"
)

type logged struct {
	server.Containers
	tty     bool
	entries []logdriver.Entry
	err     error
	got     *container.LogOptions
}

func (l logged) Logs(_ context.Context, _ string, o container.LogOptions) (iter.Seq2[logdriver.Entry, error], bool, error) {
	*l.got = o
	return func(yield func(logdriver.Entry, error) bool) {
		for _, e := range l.entries {
			if !yield(e, nil) {
				return
			}
		}
		if l.err != nil {
			yield(logdriver.Entry{}, l.err)
		}
	}, l.tty, nil
}

func TestLogs(t *testing.T) {
	at := time.Date(2026, 11, 22, 1, 2, 3, 4000, time.UTC)
	entries := []logdriver.Entry{
		{Stream: logdriver.Stdout, Time: at, Line: []byte("one\n"), Attrs: map[string]string{"b": "2 ", "a": "1"}},
		{Stream: logdriver.Stderr, Time: at, Line: []byte("bad\n")},
		{Stream: logdriver.Stdout, Time: at, Line: []byte("lo"), Partial: true},
		{Stream: logdriver.Stdout, Time: at.Add(time.Second), Line: []byte("ng\n")},
	}
	for _, tc := range []struct {
		name, query    string
		tty            bool
		err            error
		stdout, stderr string
	}{
		{"plain", "stdout=1&stderr=1", false, nil, "one\nlong\n", "bad\n"},
		{"terminal", "stdout=1&stderr=1", true, nil, "one\nbad\nlong\n", ""},
		{"timestamps", "stdout=1&timestamps=1", false, nil, "2026-11-22T01:02:03.000004000Z one\n2026-11-22T01:02:03.000004000Z long\n", "2026-11-22T01:02:03.000004000Z bad\n"},
		{"details", "stdout=1&details=1", false, nil, "a=1,b=2+ one\n long\n", " bad\n"},
		{"failure", "stdout=1", false, errors.New("disk gone"), "one\nlong\n", "bad\nError grabbing logs: disk gone\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := serve(t, server.Options{Containers: logged{tty: tc.tty, entries: entries, err: tc.err, got: new(container.LogOptions)}})
			res, body := h.do("GET", "/v1.44/containers/x/logs?"+tc.query, "", "")
			var stdout, stderr bytes.Buffer
			want := "application/vnd.docker.raw-stream"
			if tc.tty {
				_, _ = io.Copy(&stdout, strings.NewReader(body))
			} else {
				want = "application/vnd.docker.multiplexed-stream"
				if _, err := stdcopy.StdCopy(&stdout, &stderr, strings.NewReader(body)); err != nil {
					t.Fatal(err)
				}
			}
			if got := res.Header.Get("Content-Type"); got != want {
				t.Errorf("content type %q", got)
			}
			if diff := cmp.Diff([]string{tc.stdout, tc.stderr}, []string{stdout.String(), stderr.String()}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLogOptions(t *testing.T) {
	for _, tc := range []struct {
		name, query string
		want        container.LogOptions
		status      int
	}{
		{"all", "stdout=1&tail=all&follow=1", container.LogOptions{Follow: true, ReadOptions: logdriver.ReadOptions{Stdout: true, Tail: -1}}, 200},
		{"tail", "stderr=true&tail=5", container.LogOptions{ReadOptions: logdriver.ReadOptions{Stderr: true, Tail: 5}}, 200},
		{"since", "stdout=1&since=10.5&until=20", container.LogOptions{ReadOptions: logdriver.ReadOptions{
			Stdout: true, Tail: -1, Since: time.Unix(10, 500000000), Until: time.Unix(20, 0)}}, 200},
		{"no stream", "", container.LogOptions{}, 400},
		{"bad time", "stdout=1&since=yesterday", container.LogOptions{}, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got container.LogOptions
			h := serve(t, server.Options{Containers: logged{got: &got}})
			res, body := h.do("GET", "/v1.44/containers/x/logs?"+tc.query, "", "")
			if res.StatusCode != tc.status {
				t.Errorf("status %d: %s", res.StatusCode, body)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
