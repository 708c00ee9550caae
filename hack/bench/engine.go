package main

import (
	"cmp"
	"context"
	"fmt"
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
	socket        string
	runtime       string // its OCI runtime, or empty
	config        string // of its configuration file; "{}" where empty
	proc          *exec.Cmd
	holder        *exec.Cmd // of a mount namespace; its pid stands for the empty argument
	// helpers are the names of processes that belong to the engine or its containers.
	helpers []string
}

// installed gives Muelle and those of its peers that are on the machine.
func installed(bin, dir string) []*engine {
	muelle := &engine{
		name: "Muelle", dir: filepath.Join(dir, "muelle"), path: filepath.Join(bin, "muelle"),
		compose: []string{filepath.Join(bin, "muelle"), "compose"},
		helpers: []string{"muelled", "muelle-shim"},
		daemon: func(e *engine) *exec.Cmd {
			return exec.Command(filepath.Join(bin, "muelled"), "--data-root", e.dir+"/data", "--exec-root", e.dir+"/run",
				"-H", "unix://"+e.socket, "--config-file", e.dir+"/daemon.json", "--pidfile", e.dir+"/pid")
		},
	}
	muelle.runtime = filepath.Join(bin, "muelle-oci")
	muelle.socket = muelle.dir + "/m.sock"
	muelle.env = []string{"MUELLE_HOST=unix://" + muelle.socket}
	engines := []*engine{muelle}
	if dockerd, err := exec.LookPath("dockerd"); err == nil {
		docker := &engine{
			name: "Docker", dir: filepath.Join(dir, "docker"),
			config:  `{"live-restore": true}`, // as Muelle: a restart of the daemon leaves containers alone
			helpers: []string{"dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2", "docker-proxy"},
			daemon: func(e *engine) *exec.Cmd {
				return exec.Command(dockerd, "--data-root", e.dir+"/data", "--exec-root", e.dir+"/run", "-H", "unix://"+e.socket,
					"--config-file", e.dir+"/daemon.json", "--pidfile", e.dir+"/pid")
			},
		}
		docker.path, _ = exec.LookPath("docker")
		docker.runtime, _ = exec.LookPath("runc")
		docker.socket = docker.dir + "/d.sock"
		docker.env = []string{"DOCKER_HOST=unix://" + docker.socket, "DOCKER_BUILDKIT=0"}
		if compose, err := exec.LookPath("docker-compose"); err == nil {
			docker.compose = []string{compose}
		}
		engines = append(engines, docker)
	}
	if podman, err := exec.LookPath("podman"); err == nil {
		e := &engine{name: "Podman", dir: filepath.Join(dir, "podman"), helpers: []string{"conmon"}}
		// Podman raises limits beyond what a root without CAP_SYS_RESOURCE may.
		e.env = []string{"CONTAINERS_CONF=" + e.dir + "/daemon.json"}
		e.config = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n"
		// crun refuses a hybrid host whose v2 hierarchy has a controller: Podman runs in a
		// mount namespace without that hierarchy, held open by a process that sleeps.
		e.path = "/usr/bin/nsenter"
		e.runtime, _ = exec.LookPath("crun")
		e.holder = exec.Command("unshare", "--mount", "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; echo ready; exec sleep 100000")
		e.prefix = []string{"--mount", "--target", "", podman, "--root", e.dir + "/data", "--runroot", e.dir + "/run", "--cgroup-manager", "cgroupfs", "--log-level", "error"}
		engines = append(engines, e)
	}
	return engines
}

func (e *engine) cli(args ...string) *exec.Cmd {
	cmd := exec.Command(e.path, append(append([]string{}, e.prefix...), args...)...)
	cmd.Env = append(os.Environ(), e.env...)
	return cmd
}

func (e *engine) composeCLI(file string, args ...string) *exec.Cmd {
	cmd := exec.Command(e.compose[0], append(append(append([]string{}, e.compose[1:]...), "-p", "bench", "-f", file), args...)...)
	cmd.Env = append(os.Environ(), e.env...)
	return cmd
}

func (e *engine) start() error {
	if err := os.MkdirAll(e.dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(e.dir+"/daemon.json", []byte(cmp.Or(e.config, "{}")), 0o644); err != nil {
		return err
	}
	if e.daemon != nil {
		if _, err := e.launch(); err != nil {
			return err
		}
	}
	if e.holder != nil {
		if err := e.hold(); err != nil {
			return err
		}
	}
	format := []string{"version", "--format", "{{.Server.Version}}"}
	if e.daemon == nil {
		format[2] = "{{.Client.Version}}"
	}
	out, err := e.cli(format...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("version: %w: %s", err, out)
	}
	e.version = strings.TrimSpace(string(out))
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

// launch starts the daemon and returns how long it took to its first answer.
func (e *engine) launch() (time.Duration, error) {
	logFile, err := os.OpenFile(e.dir+"/log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return 0, err
	}
	defer logFile.Close()
	e.proc = e.daemon(e)
	e.proc.Stdout, e.proc.Stderr = logFile, logFile
	e.proc.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", e.socket)
	}}}
	begin := time.Now()
	if err := e.proc.Start(); err != nil {
		return 0, err
	}
	for time.Since(begin) < 60*time.Second {
		resp, err := client.Get("http://engine/_ping")
		if err == nil {
			resp.Body.Close()
			return time.Since(begin), nil
		}
		time.Sleep(500 * time.Microsecond)
	}
	text, _ := os.ReadFile(e.dir + "/log")
	return 0, fmt.Errorf("no answer within a minute: %s", text)
}

// end stops the daemon and keeps its state.
func (e *engine) end() error {
	if e.proc == nil {
		return nil
	}
	e.proc.Process.Signal(syscall.SIGTERM)
	err := e.proc.Wait()
	e.proc = nil
	if _, ok := err.(*exec.ExitError); ok {
		return nil
	}
	return err
}

func (e *engine) stop() {
	if out, err := e.cli("ps", "-aq").Output(); err == nil {
		if ids := strings.Fields(string(out)); len(ids) > 0 {
			e.cli(append([]string{"rm", "-f"}, ids...)...).Run()
		}
	}
	e.end()
	if e.holder != nil {
		e.holder.Process.Kill()
		e.holder.Wait()
	}
}

// peer turns what a peer cannot do into an empty cell, and keeps Muelle's failures.
func (e *engine) peer(value float64, err error) (float64, error) {
	if err != nil && e.name != "Muelle" {
		log.Printf("%s: %v", e.name, err)
		return 0, errNotMeasured
	}
	return value, err
}
