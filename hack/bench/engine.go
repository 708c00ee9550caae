package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const image = "bench:1"

// engine is one container engine with state of its own.
type engine struct {
	name, version string
	dir           string
	path          string   // of the command line
	prefix        []string // arguments before every command
	env           []string
	compose       []string // command of Compose, or nil
	daemon        func(e *engine) *exec.Cmd
	answers       func(e *engine, c *http.Client) error // to the first question; Docker's API where nil
	socket        string
	runtime       string   // its OCI runtime, or empty
	config        string   // of its configuration file; "{}" where empty
	remove        []string // a running container, at once
	versions      string   // template of its version
	loads         bool     // archives of images only; it cannot import a file system
	proc          *exec.Cmd
	holder        *exec.Cmd // of a mount namespace; its pid stands for the empty argument
	// helpers are the names of processes that belong to the engine or its containers.
	helpers []string
	beside  []string // those of them that every container with a published port has
	// lacks says, by what a row needs, why the engine has nothing there.
	lacks map[string]notMeasured
	alone bool // its commands that remove networks cannot run at a time
	// remark is of the sample that is being taken, for a footnote.
	remark string
	// struck counts commands that did not end; out is why the engine is left out since.
	struck int
	out    error
}

// without gives the reason for which an engine cannot do what a row needs, or nil.
func (e *engine) without(what string) error {
	if reason, ok := e.lacks[what]; ok {
		return reason
	}
	return nil
}

func (e *engine) cli(args ...string) *command {
	return &command{engine: e, shown: args, args: append(append([]string{e.path}, e.prefix...), args...), limit: patience}
}

func (e *engine) composeCLI(file string, args ...string) *command {
	all := append(slices.Clone(e.compose), "-p", "bench", "-f", file)
	return &command{engine: e, shown: append([]string{"compose"}, args...), args: append(all, args...), limit: patience}
}

// tidy removes running containers. What fails is said, and shows in the rows that follow.
func (e *engine) tidy(names ...string) {
	if err := e.cli(append(slices.Clone(e.remove), names...)...).do(); err != nil {
		log.Printf("%s: %v", e.name, err)
		e.strike(err)
	}
}

func (e *engine) start() error {
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(e.dir+"/daemon.json", []byte(cmp.Or(e.config, "{}")), 0o644); err != nil {
		return err
	}
	if e.daemon != nil {
		if _, err := e.launch(patience); err != nil {
			return err
		}
	}
	if e.holder != nil {
		if err := e.hold(); err != nil {
			return err
		}
	}
	out, err := e.cli("version", "--format", cmp.Or(e.versions, "{{.Server.Version}}")).output()
	if err != nil {
		return err
	}
	e.version = strings.TrimPrefix(out, "v") + e.version
	return nil
}

func (e *engine) hold() error {
	e.holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := e.holder.StdoutPipe()
	if err != nil {
		return err
	}
	if err := e.holder.Start(); err != nil {
		return err
	}
	if _, err := out.Read(make([]byte, 10)); err != nil {
		return err
	}
	e.prefix[slices.Index(e.prefix, "")] = strconv.Itoa(e.holder.Process.Pid)
	return nil
}

// launch starts the daemon and returns how many milliseconds it took to its first answer,
// which it gives up to wait for after the limit.
func (e *engine) launch(limit time.Duration) (float64, error) {
	logFile, err := os.OpenFile(e.dir+"/log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer logFile.Close()
	e.proc = e.daemon(e)
	e.proc.Stdout, e.proc.Stderr = logFile, logFile
	e.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", e.socket)
	}}
	ask := e.answers
	if ask == nil {
		ask = pings
	} else {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	client := http.Client{Transport: transport, Timeout: 10 * time.Second}
	begin := time.Now()
	if err := e.proc.Start(); err != nil {
		return 0, err
	}
	for time.Since(begin) < limit {
		if ask(e, &client) == nil {
			return float64(time.Since(begin).Microseconds()) / 1000, nil
		}
		time.Sleep(500 * time.Microsecond)
	}
	text, _ := os.ReadFile(e.dir + "/log")
	log.Printf("%s's daemon: %s", e.name, text[max(0, len(text)-2000):])
	return 0, errors.Join(&deadlineError{"the start of " + e.name + "'s daemon", limit}, e.end())
}

func pings(_ *engine, c *http.Client) error {
	resp, err := c.Get("http://engine/_ping")
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// grpcVersion asks containerd for its version: an empty message over HTTP/2.
func grpcVersion(_ *engine, c *http.Client) error {
	resp, err := c.Post("http://engine/containerd.services.version.v1.Version/Version", "application/grpc", strings.NewReader("\x00\x00\x00\x00\x00"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if status := resp.Trailer.Get("Grpc-Status"); status != "0" {
		return fmt.Errorf("grpc status %q", status)
	}
	return nil
}

// end stops the daemon and keeps its state; one that does not go is killed.
func (e *engine) end() error { return e.endWithin(patience) }

func (e *engine) endWithin(limit time.Duration) error {
	if e.proc == nil {
		return nil
	}
	proc := e.proc
	e.proc = nil
	if err := proc.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.AfterFunc(limit, func() { proc.Process.Kill() })
	err := proc.Wait()
	if !timer.Stop() {
		return &deadlineError{"the end of " + e.name + "'s daemon", limit}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func (e *engine) stop() {
	if out, err := e.cli("ps", "-aq").output(); err == nil {
		if ids := strings.Fields(out); len(ids) > 0 {
			e.tidy(ids...)
		}
	}
	if err := e.end(); err != nil {
		log.Printf("%s: %v", e.name, err)
	}
	if e.holder != nil && e.holder.Process != nil {
		e.holder.Process.Kill()
		e.holder.Wait()
	}
}

// take makes an image of a root file system in a tar; an engine that only loads gets
// the archive of it that Muelle, the first of them, saves.
func (e *engine) take(first *engine, rootfs, ref string) error {
	if !e.loads {
		return e.cli("import", rootfs, ref).do()
	}
	archive := filepath.Join(e.dir, "image.tar")
	if err := first.cli("save", "-o", archive, ref).do(); err != nil {
		return err
	}
	return e.cli("load", "-i", archive).do()
}
