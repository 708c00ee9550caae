//go:build root

package native_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/logdriver"
	"muelle/internal/runtime"
	"muelle/internal/runtime/runtimetest"
)

// TestRenewedShim: a shim executes itself anew beside a container with attached streams,
// an unfinished line in its log, an exec on a terminal, a relay and two daemons, and none
// of them notices. Twice, as the second time begins where the first ended.
func TestRenewedShim(t *testing.T) {
	t.Parallel() // it waits for quiet
	r, down := newRuntime(t, t.TempDir())
	t.Cleanup(down)
	w := startRenewed(t, r)
	w.use(t, r, "fresh")
	for _, round := range []string{"once", "twice"} {
		w.renewed(t)
		w.use(t, r, round)
	}
	w.end(t)
}

// world is a container of which everything is used.
type renewedWorld struct {
	dir, id string
	task    runtime.Task
	shim    int
	in, out pipeEnds
	tty     runtime.Process
	ttyIn   *io.PipeWriter
	ttyOut  *bufio.Reader
	relay   string
	logged  string
}

type pipeEnds struct {
	w *io.PipeWriter
	r *bufio.Reader
}

func startRenewed(t *testing.T, r runtime.Runtime) *renewedWorld {
	t.Helper()
	root := t.TempDir()
	id := fmt.Sprintf("t%d-renewed", os.Getpid())
	w := &renewedWorld{dir: filepath.Join(root, id), id: id}
	check(t, os.Mkdir(w.dir, 0o700))
	port, to := relayPorts(t)
	w.relay = port.Addr().String()
	file, err := port.File()
	check(t, err)
	port.Close()
	defer file.Close()
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	w.in.w, w.out.r = inW, bufio.NewReader(outR)
	// Each line is answered in two pieces, of which the second comes with the next line.
	w.task, err = r.Start(context.Background(), &runtime.Container{
		ID: id, Dir: w.dir, Spec: runtimetest.Spec("/"+parent+"/"+id, "sh", "-c", `printf begun; while read x; do printf ' %s\nthen' "$x"; done; exit 6`),
		Rootfs: runtimetest.Overlay(t, runtimetest.MakeRootfs(t)), OpenStdin: true, StdinOnce: true,
		Log:    logdriver.Config{Type: "json-file", Path: filepath.Join(root, "log"), MaxFile: 1},
		Held:   []runtime.Held{{Name: "port", File: file, RelayTo: to}},
		Attach: []*runtime.Streams{{Stdin: inR, Stdout: outW}},
	})
	check(t, err)
	t.Cleanup(func() { w.task.Delete(context.Background()) })
	w.shim = parentOf(t, w.task.Pid())
	ttyR, ttyW := io.Pipe()
	ttyOutR, ttyOutW := io.Pipe()
	p := runtimetest.Spec("/", "sh", "-c", "stty -echo; echo ready; while read x; do echo $x $(stty size); done; exit 7").Process
	p.Terminal = true
	w.tty, err = w.task.Exec(context.Background(), p, runtime.ExecOptions{ID: "tty", OpenStdin: true, Width: 80, Height: 24,
		Record: []byte("mine"), Streams: &runtime.Streams{Stdin: ttyR, Stdout: ttyOutW}})
	check(t, err)
	w.ttyIn, w.ttyOut = ttyW, bufio.NewReader(ttyOutR)
	if got, err := w.ttyOut.ReadString('\n'); err != nil || got != "ready\r\n" {
		t.Fatalf("the terminal says %q, %v", got, err)
	}
	return w
}

// relayPorts gives a socket of [::1] and where to relay to: somebody who echoes.
func relayPorts(t *testing.T) (*net.TCPListener, netip.AddrPort) {
	t.Helper()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	t.Cleanup(func() { echo.Close() })
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}
	}()
	l, err := net.Listen("tcp", "[::1]:0")
	check(t, err)
	return l.(*net.TCPListener), echo.Addr().(*net.TCPAddr).AddrPort()
}

// renewed executes until the shim is another, and compares its descriptors.
func (w *renewedWorld) renewed(t *testing.T) {
	t.Helper()
	before, old := descriptors(t, w.shim), image(t, w.shim)
	for i := range 24 {
		p, err := w.task.Exec(context.Background(), runtimetest.Spec("/", "true").Process, runtime.ExecOptions{ID: strconv.Itoa(i)})
		check(t, err)
		_, err = p.Wait(context.Background())
		check(t, err)
	}
	awaitImage(t, w.shim, w.task, old)
	if d := cmp.Diff(before, descriptors(t, w.shim)); d != "" {
		t.Errorf("the shim's descriptors (-before +after):\n%s", d)
	}
}

// image is where an execution of a program has its memory, which is another place each
// time.
func image(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	check(t, err)
	return string(b)
}

// awaitImage waits until a shim executes another program than the old one, and answers.
func awaitImage(t *testing.T, pid int, task runtime.Task, old string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); image(t, pid) == old; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the shim is not renewed")
		}
	}
	_, err := task.Logged(context.Background())
	check(t, err)
}

// descriptors are what a process has open, but for what each execution opens for itself.
func descriptors(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	entries, err := os.ReadDir(dir + "fd")
	check(t, err)
	var all []string
	for _, e := range entries {
		to, err := os.Readlink(dir + "fd/" + e.Name())
		check(t, err)
		info, err := os.ReadFile(dir + "fdinfo/" + e.Name())
		check(t, err)
		flags, _, _ := strings.Cut(string(info[bytes.Index(info, []byte("flags:")):]), "\n")
		if fd, _ := strconv.Atoi(e.Name()); to != "anon_inode:[eventpoll]" && to != "/proc" {
			all = append(all, fmt.Sprintf("%d %s %s", fd, to, strings.Fields(flags)[1]))
		}
	}
	sort.Strings(all)
	return all
}

// use uses everything.
func (w *renewedWorld) use(t *testing.T, r runtime.Runtime, word string) {
	t.Helper()
	ctx := context.Background()
	before := "begun"
	if w.logged != "" {
		before = "then"
	}
	io.WriteString(w.in.w, word+"\n")
	want := before + " " + word + "\n"
	if got, err := w.out.r.ReadString('\n'); err != nil || got != want {
		t.Errorf("%s: the container says %q, %v", word, got, err)
	}
	w.logged += want
	check(t, w.tty.Resize(ctx, 80+uint16(len(word)), 24))
	io.WriteString(w.ttyIn, word+"\n")
	if got, err := w.ttyOut.ReadString('\n'); err != nil || got != fmt.Sprintf("%s 24 %d\r\n", word, 80+len(word)) {
		t.Errorf("%s: the terminal says %q, %v", word, got, err)
	}
	c, err := net.Dial("tcp", w.relay)
	check(t, err)
	defer c.Close()
	check(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	io.WriteString(c, word)
	c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != word {
		t.Errorf("%s: relayed %q, %v", word, got, err)
	}
	p, err := w.task.Exec(ctx, runtimetest.Spec("/", "sh", "-c", "exit 5").Process, runtime.ExecOptions{ID: word})
	check(t, err)
	if e, err := p.Wait(ctx); err != nil || e.Code != 5 {
		t.Errorf("%s: an exec ends as %+v, %v", word, e, err)
	}
	other, err := r.Load(ctx, w.id, w.dir)
	check(t, err)
	execs, err := other.Execs(ctx)
	check(t, err)
	if len(execs) != 1 || execs[0].ID != "tty" || string(execs[0].Record) != "mine" || execs[0].Process.Pid() != w.tty.Pid() {
		t.Errorf("%s: another daemon finds the execs %+v", word, execs)
	}
	if other.Pid() != w.task.Pid() || !other.StartedAt().Equal(w.task.StartedAt()) {
		t.Errorf("%s: another daemon finds the process %d of %v", word, other.Pid(), other.StartedAt())
	}
}

// end ends it, and looks at what is told of that.
func (w *renewedWorld) end(t *testing.T) {
	ctx := context.Background()
	w.ttyIn.Close()
	check(t, w.tty.Signal(ctx, syscall.SIGHUP))
	if e, err := w.tty.Wait(ctx); err != nil || e.Signal != syscall.SIGHUP {
		t.Errorf("the terminal ends as %+v, %v", e, err)
	}
	w.in.w.Close()
	if e, err := w.task.Wait(ctx); err != nil || e.Code != 6 {
		t.Errorf("the container ends as %+v, %v", e, err)
	}
	log, err := os.ReadFile(filepath.Join(filepath.Dir(w.dir), "log"))
	check(t, err)
	var lines []string
	for line := range strings.Lines(string(log)) {
		_, text, _ := strings.Cut(line, `"log":`)
		text, _, _ = strings.Cut(text, `,"stream"`)
		lines = append(lines, text)
	}
	want := []string{`"begun fresh\n"`, `"then once\n"`, `"then twice\n"`, `"then"`}
	if d := cmp.Diff(want, lines); d != "" {
		t.Errorf("the log (-want +got):\n%s", d)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
