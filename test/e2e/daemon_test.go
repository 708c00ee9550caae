//go:build root

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemon is one muelled with places of its own.
type daemon struct {
	dir   string
	flags []string
	// file, unless empty, is daemon.json, which says everything: no flag but its own is given.
	file  string
	cmd   *exec.Cmd
	ended chan error
}

// instances names every daemon of this run by its instance id: the first eight
// digits of the digest of its data-root.
var instances = map[string]string{}

func newDaemon(name string, flags ...string) *daemon {
	d := &daemon{dir: filepath.Join(world.dir, name), flags: flags}
	sum := sha256.Sum256([]byte(filepath.Join(d.dir, "data")))
	instances[hex.EncodeToString(sum[:4])] = name
	return d
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "run", "muelle.sock") }
func (d *daemon) host() string   { return "unix://" + d.socket() }
func (d *daemon) log() string    { return filepath.Join(d.dir, "muelled.log") }

func (d *daemon) start() error {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	logFile, err := os.OpenFile(d.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	args := append([]string{
		"--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "run"), "-H", d.host(),
		"--pidfile", filepath.Join(d.dir, "pid"), "--registry-mirror", "http://" + registryAddr,
		"--config-file", filepath.Join(d.dir, "daemon.json"), "--debug",
	}, d.flags...)
	text := "{}"
	if d.file != "" {
		text, args = d.file, []string{"--config-file", filepath.Join(d.dir, "daemon.json")}
	}
	if err := os.WriteFile(filepath.Join(d.dir, "daemon.json"), []byte(text), 0o644); err != nil {
		return err
	}
	d.cmd = exec.Command(filepath.Join(world.bin, "muelled"), args...)
	d.cmd.Stdout, d.cmd.Stderr = logFile, logFile
	d.ended = make(chan error, 1)
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("start muelled: %w (make build first)", err)
	}
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(d.cmd, d.ended)
	err = eventually(20*time.Second, func() error {
		resp, err := d.http().Get("http://muelle/_ping")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if err != nil {
		return fmt.Errorf("muelled does not answer: %w\n%s", err, tail(d.log()))
	}
	return nil
}

// kill ends the daemon as a crash does and waits until it is gone.
func (d *daemon) kill(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-d.ended
}

// leave ends the daemon in good order, and leaves its containers running.
func (d *daemon) leave(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-d.ended; err != nil {
		t.Fatalf("muelled ended with %v\n%s", err, tail(d.log()))
	}
}

// shutdown stops the containers and the daemon.
func (d *daemon) shutdown() error {
	resp, err := d.http().Post("http://muelle/muelle/v1/shutdown?containers=stop", "", nil)
	if err != nil {
		return fmt.Errorf("shut down: %w\n%s", err, tail(d.log()))
	}
	resp.Body.Close()
	select {
	case err := <-d.ended:
		if err != nil {
			return fmt.Errorf("muelled ended with %w\n%s", err, tail(d.log()))
		}
		return nil
	case <-time.After(60 * time.Second):
		d.cmd.Process.Signal(syscall.SIGQUIT)
		<-d.ended
		return fmt.Errorf("muelled did not end within a minute\n%s", tail(d.log()))
	}
}

func (d *daemon) http() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "unix", d.socket())
		},
	}}
}

// own gives a test a daemon for itself, which ends with it.
func own(t *testing.T, flags ...string) *daemon {
	t.Helper()
	d := newDaemon(strings.ReplaceAll(t.Name(), "/", "-"), flags...)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.shutdown(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", tail(d.log()))
		}
	})
	return d
}
