//go:build root

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"golang.org/x/net/websocket"
)

// TestExecsSurvive: execs are known again after the daemon's death, those that run
// and those that ended meanwhile.
func TestExecsSurvive(t *testing.T) {
	d := own(t)
	c := ours(d)
	shared := t.TempDir()
	c.must(t, "run", "-d", "--name", "host", "-v", shared+":/s", "busybox", "sleep", "1000")
	c.remove(t, "host")
	for _, name := range []string{"early", "late"} {
		c.must(t, "exec", "-d", "-e", "SECRET=x", "host", "sh", "-c", "while ! [ -e /s/"+name+" ]; do usleep 20000; done; exit "+fmt.Sprint(len(name)))
	}
	ids := func() []string {
		var all []struct{ ExecIDs []string }
		if err := json.Unmarshal([]byte(c.must(t, "inspect", "host")), &all); err != nil {
			t.Fatal(err)
		}
		return all[0].ExecIDs
	}
	type exec struct {
		Running       bool
		ExitCode      *int
		ProcessConfig struct {
			Entrypoint string `json:"entrypoint"`
			Arguments  []string
		}
	}
	inspect := func(id string) (x exec) {
		resp, err := d.http().Get("http://muelle/v1.44/exec/" + id + "/json")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&x); err != nil || resp.StatusCode != 200 {
			t.Fatalf("exec %s: %s, %v", id, resp.Status, err)
		}
		return x
	}
	before := ids()
	if len(before) != 2 {
		t.Fatalf("execs %v", before)
	}
	d.kill(t)
	touch(t, shared, "early")
	if err := eventually(30*time.Second, func() error { // it ends unseen
		return gone("early")
	}); err != nil {
		t.Fatal(err)
	}
	since := fmt.Sprintf("%.9f", float64(time.Now().UnixNano())/1e9)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	codes := map[int]bool{}
	for _, id := range before {
		x := inspect(id)
		if x.ProcessConfig.Entrypoint != "sh" || len(x.ProcessConfig.Arguments) != 2 {
			t.Errorf("%+v", x)
		}
		if strings.Contains(x.ProcessConfig.Arguments[1], "late") {
			if !x.Running || x.ExitCode != nil {
				t.Errorf("the one that runs: %+v", x)
			}
			touch(t, shared, "late")
		}
		if err := eventually(30*time.Second, func() error {
			if x = inspect(id); x.Running || x.ExitCode == nil {
				return fmt.Errorf("it has ended: %+v", x)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		codes[*x.ExitCode] = true
	}
	if !codes[4] || !codes[5] {
		t.Errorf("exit codes %v", codes)
	}
	if left := ids(); len(left) != 0 {
		t.Errorf("still listed: %v", left)
	}
	until := fmt.Sprintf("%.9f", float64(time.Now().Add(200*time.Millisecond).UnixNano())/1e9)
	out := c.must(t, "events", "--since", since, "--until", until, "--filter", "event=exec_die", "--format", `{{index .Actor.Attributes "exitCode"}}`)
	if n := len(strings.Fields(out)); n != 2 {
		t.Errorf("exec_die: %q", out)
	}
}

// gone tells whether no process waits for a file of the shared folder any more.
func gone(name string) error {
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, p := range procs {
		if line, err := os.ReadFile(p); err == nil && bytes.Contains(line, []byte("/s/"+name+" ]")) {
			return fmt.Errorf("%s still runs", p)
		}
	}
	return nil
}

// dial opens the daemon's socket.
func dial(t *testing.T, d *daemon) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", d.socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn.(*net.UnixConn)
}

// TestWebsocket: many bytes through a container over a websocket; its input ends with
// the client's Close, and what it says afterwards still arrives.
func TestWebsocket(t *testing.T) {
	c := ours(world.daemon)
	name := c.unique(t, "c")
	c.must(t, "create", "-i", "-a", "stdin", "-a", "stdout", "--name", name, "--log-driver", "none", "busybox", "sh", "-c", "cat; sleep 0.2; echo bye")
	c.remove(t, name)
	cfg, err := websocket.NewConfig("ws://muelle/v1.44/containers/"+name+"/attach/ws?stream=1&stdin=1&stdout=1&stderr=1", "http://muelle")
	if err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.NewClient(cfg, dial(t, world.daemon))
	if err != nil {
		t.Fatal(err)
	}
	ws.PayloadType = websocket.BinaryFrame
	c.must(t, "start", name)
	in := make([]byte, 8<<20)
	rand.Read(in)
	go func() {
		ws.Write(in)
		ws.WriteClose(1000)
	}()
	out, err := io.ReadAll(ws)
	if want := append(in, "bye\n"...); err != nil || !bytes.Equal(out, want) {
		t.Errorf("%d bytes of %d came back, %v", len(out), len(want), err)
	}
}

// TestHalfClose: over a plain connection without Upgrade, as old clients have it.
func TestHalfClose(t *testing.T) {
	for _, upgrade := range []string{"", "Connection: Upgrade\r\nUpgrade: tcp\r\n"} {
		c := ours(world.daemon)
		name := c.unique(t, fmt.Sprint(len(upgrade)))
		c.must(t, "create", "-i", "--name", name, "-a", "stdin", "-a", "stdout", "busybox", "sh", "-c", "wc -c; echo end >&2")
		c.remove(t, name)
		conn := dial(t, world.daemon)
		fmt.Fprintf(conn, "POST /v1.44/containers/%s/attach?stream=1&stdin=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: m\r\n%sContent-Length: 0\r\n\r\n", name, upgrade)
		r := bufio.NewReader(conn)
		head, err := http.ReadResponse(r, nil)
		if err != nil || head.StatusCode/100 > 2 {
			t.Fatalf("%+v, %v", head, err)
		}
		c.must(t, "start", name)
		conn.Write(make([]byte, 1<<20))
		conn.CloseWrite()
		var out, errs bytes.Buffer
		if _, err := stdcopy.StdCopy(&out, &errs, r); err != nil {
			t.Fatal(err)
		}
		if out.String() != "1048576\n" || errs.String() != "end\n" {
			t.Errorf("%q %q", &out, &errs)
		}
	}
}

// TestSeveralAttached: every client gets everything, and one that does not read holds
// the container up without any loss.
func TestSeveralAttached(t *testing.T) {
	const count = 200000
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "-di", "--name", name, "busybox", "sh", "-c", fmt.Sprintf("read x; seq 1 %d", count))
		c.remove(t, name)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		type end struct {
			lines int
			err   error
		}
		ends := make(chan end, 2)
		var slow *io.PipeReader
		for i := range 2 {
			cmd := c.command(ctx, "attach", "--no-stdin", "--sig-proxy=false", name)
			r, w := io.Pipe()
			cmd.Stdout = w
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			go func() { w.CloseWithError(cmd.Wait()) }()
			if i == 0 {
				slow = r
				continue
			}
			go func() { n, err := countLines(r); ends <- end{n, err} }()
		}
		if err := eventually(30*time.Second, func() error {
			if out := c.must(t, "events", "--since", "10m", "--until", "0s", "--filter", "container="+name, "--filter", "event=attach", "--format", "x"); strings.Count(out, "x") != 2 {
				return fmt.Errorf("attached: %q", out)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if r := c.pipe(t, []byte("go\n"), "exec", "-i", name, "sh", "-c", "cat >/proc/1/fd/0"); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		// One of the two does not read: the container cannot end.
		if got := c.must(t, "inspect", "-f", "{{.State.Running}}", name); got != "true" {
			t.Errorf("running: %s", got)
		}
		go func() { n, err := countLines(slow); ends <- end{n, err} }()
		for range 2 {
			if e := <-ends; e.lines != count || e.err != nil {
				t.Errorf("%d lines, %v", e.lines, e.err)
			}
		}
		if lines := strings.Count(c.try(t, "logs", name).out, "\n"); lines != count {
			t.Errorf("%d lines logged", lines)
		}
	})
}

// countLines counts lines that are numbers in order.
func countLines(r io.Reader) (n int, err error) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		if n++; s.Text() != fmt.Sprint(n) {
			return n, fmt.Errorf("line %d is %q", n, s.Text())
		}
	}
	return n, s.Err()
}

// TestOutOfMemory: a kill for lack of memory is told when it happens, also where the
// container goes on, and at its end.
//
//muelle:ring
func TestOutOfMemory(t *testing.T) {
	const eats = "x=a; while :; do x=$x$x; done"
	forEach(t, func(t *testing.T, c client) {
		alive, dead := c.unique(t, "alive"), c.unique(t, "dead")
		c.must(t, "run", "-d", "--name", alive, "-m", "20m", "busybox", "sh", "-c", "("+eats+"); sleep 1000")
		c.must(t, "run", "-d", "--name", dead, "-m", "20m", "--init=false", "busybox", "sh", "-c", eats)
		c.remove(t, alive, dead)
		told := func(name string) error {
			until := fmt.Sprintf("%.9f", float64(time.Now().UnixNano())/1e9)
			out := c.must(t, "events", "--since", "10m", "--until", until, "--filter", "container="+name, "--filter", "event=oom", "--format", "{{.Action}}")
			if !strings.HasPrefix(out, "oom") {
				return fmt.Errorf("events of %s: %q", name, out)
			}
			return nil
		}
		if err := eventually(20*time.Second, func() error { return told(alive) }); err != nil {
			t.Error(err)
		}
		if got := c.must(t, "inspect", "-f", "{{.State.Running}} {{.State.OOMKilled}}", alive); got != "true true" {
			t.Errorf("running, killed for lack of memory: %s", got)
		}
		if got := c.must(t, "wait", dead); got != "137" {
			t.Errorf("exit status %s", got)
		}
		if got := c.must(t, "inspect", "-f", "{{.State.Running}} {{.State.OOMKilled}}", dead); got != "false true" {
			t.Errorf("running, killed for lack of memory: %s", got)
		}
		if err := told(dead); err != nil {
			t.Error(err)
		}
	})
}
