package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// installed gives Muelle and those of its peers that are on the machine, or those whose
// names are wanted of them.
func installed(bin, dir string, wanted []string) []*engine {
	engines := []*engine{muelle(bin, filepath.Join(dir, "muelle"))}
	for _, peer := range []struct {
		name, program string
		make          func(program, dir string) *engine
	}{
		{"Docker", "dockerd", docker}, {"Podman", "podman", podman}, {"nerdctl", "nerdctl", nerdctl},
	} {
		if len(wanted) > 0 && !slices.ContainsFunc(wanted, func(w string) bool { return strings.EqualFold(w, peer.name) }) {
			continue
		}
		program, err := exec.LookPath(peer.program)
		if own := filepath.Join(bin, "peers", peer.program); err != nil {
			if _, err = os.Stat(own); err == nil {
				program = own
			}
		}
		if err != nil {
			log.Printf("without %s: there is no %s here (make bench-peers installs it)", peer.name, peer.program)
			continue
		}
		if e := peer.make(program, filepath.Join(dir, strings.ToLower(peer.name))); e != nil {
			engines = append(engines, e)
		}
	}
	return engines
}

func muelle(bin, dir string) *engine {
	e := &engine{
		name: "Muelle", dir: dir, path: filepath.Join(bin, "muelle"),
		compose: []string{filepath.Join(bin, "muelle"), "compose"},
		helpers: []string{"muelled", "muelle-shim"}, beside: []string{"muelle-shim"},
		runtime: filepath.Join(bin, "muelle-oci"),
		socket:  dir + "/m.sock",
		remove:  []string{"rm", "-f"},
		daemon: func(e *engine) *exec.Cmd {
			return exec.Command(filepath.Join(bin, "muelled"), "--data-root", e.dir+"/data", "--exec-root", e.dir+"/run",
				"-H", "unix://"+e.socket, "--config-file", e.dir+"/daemon.json", "--pidfile", e.dir+"/pid")
		},
	}
	e.env = []string{"MUELLE_HOST=unix://" + e.socket}
	return e
}

func docker(dockerd, dir string) *engine {
	e := &engine{
		name: "Docker", dir: dir, socket: dir + "/d.sock",
		config:  `{"live-restore": true}`, // as Muelle: a restart of the daemon leaves containers alone
		helpers: []string{"dockerd", "containerd", "containerd-shim", "containerd-shim-runc-v2", "docker-proxy"},
		beside:  []string{"containerd-shim-runc-v2", "docker-proxy"},
		remove:  []string{"rm", "-f"},
		lacks:   map[string]notMeasured{},
		daemon: func(e *engine) *exec.Cmd {
			return exec.Command(dockerd, "--data-root", e.dir+"/data", "--exec-root", e.dir+"/run", "-H", "unix://"+e.socket,
				"--config-file", e.dir+"/daemon.json", "--pidfile", e.dir+"/pid")
		},
	}
	var err error
	if e.path, err = exec.LookPath("docker"); err != nil {
		log.Print("without Docker: there is no docker client here")
		return nil
	}
	if e.runtime, err = exec.LookPath("runc"); err != nil {
		e.lacks["runtime"] = "runc is not installed"
	}
	e.env = []string{"DOCKER_HOST=unix://" + e.socket, "DOCKER_BUILDKIT=0"}
	if compose, err := exec.LookPath("docker-compose"); err == nil {
		e.compose = []string{compose}
	} else {
		e.lacks["compose"] = "docker-compose is not installed"
	}
	return e
}

func podman(program, dir string) *engine {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		log.Printf("without Podman: %v", err)
		return nil
	}
	files := min(limit.Max, 1<<20)
	e := &engine{
		name: "Podman", dir: dir, helpers: []string{"conmon"}, beside: []string{"conmon"}, versions: "{{.Client.Version}}",
		// Podman's rm -f asks first, and waits ten seconds for an answer that `sleep`, as the
		// first process of its namespace, never gives.
		remove: []string{"rm", "-f", "--time", "0"},
		lacks:  map[string]notMeasured{"daemon": "has no daemon", "compose": "has no Compose of its own"},
		// Podman raises limits beyond what a root without CAP_SYS_RESOURCE may.
		env:    []string{"CONTAINERS_CONF=" + dir + "/daemon.json", "TMPDIR=" + dir},
		config: fmt.Sprintf("[containers]\ndefault_ulimits = [\"nofile=%d:%d\", \"nproc=4096:4096\"]\n", files, files),
		// crun refuses a hybrid host whose v2 hierarchy has a controller: Podman runs in a
		// mount namespace without that hierarchy, held open by a process that sleeps.
		path:   "/usr/bin/nsenter",
		holder: exec.Command("unshare", "--mount", "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; echo ready; exec sleep 100000"),
		prefix: []string{"--mount", "--target", "", program, "--root", dir + "/data", "--runroot", dir + "/run", "--cgroup-manager", "cgroupfs", "--log-level", "error"},
	}
	var err error
	if e.runtime, err = exec.LookPath("crun"); err != nil {
		e.lacks["runtime"] = "crun is not installed"
	}
	return e
}

// nerdctl has a containerd of its own, apart from Docker's, of files of its own: their
// pages would count half for each.
func nerdctl(program, dir string) *engine {
	containerd := filepath.Join(dir, "bin", "containerd")
	for _, file := range []string{containerd, containerd + "-shim-runc-v2"} {
		if err := copyProgram(file); err != nil {
			log.Printf("without nerdctl: %v", err)
			return nil
		}
	}
	e := &engine{
		name: "nerdctl", dir: dir, path: program, socket: dir + "/c.sock", versions: "{{.Client.Version}}",
		helpers: []string{"containerd", "containerd-shim-runc-v2", filepath.Base(program)}, // one nerdctl a container writes its log
		beside:  []string{"containerd-shim-runc-v2", filepath.Base(program)},
		remove:  []string{"rm", "-f"}, loads: true, alone: true, answers: grpcVersion,
		prefix:  []string{"--data-root", dir + "/nerdctl"},
		compose: []string{program, "--data-root", dir + "/nerdctl", "compose"},
		lacks: map[string]notMeasured{
			"build":   "builds with BuildKit's daemon, which Debian does not have",
			"connect": "joins a container to networks only when it makes it",
			"runtime": "runs on runc, as Docker",
		},
		env: []string{"CONTAINERD_ADDRESS=" + dir + "/c.sock", "CONTAINERD_NAMESPACE=bench", "NETCONFPATH=" + dir + "/cni",
			"CNI_PATH=/usr/lib/cni", "NERDCTL_TOML=" + dir + "/nerdctl.toml", "TMPDIR=" + dir},
		config: `version = 2
root = "` + dir + `/data"
state = "` + dir + `/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "` + dir + `/c.sock"
`,
		daemon: func(e *engine) *exec.Cmd {
			cmd := exec.Command(containerd, "--config", e.dir+"/daemon.json")
			cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(containerd)+":"+os.Getenv("PATH")) // where it finds the shim
			return cmd
		},
	}
	if out, err := exec.Command(containerd, "--version").Output(); err == nil {
		if words := strings.Fields(string(out)); len(words) > 2 {
			e.version = " on containerd " + words[2]
		}
	}
	return e
}

// copyProgram copies the installed program of the same name to a file.
func copyProgram(to string) error {
	from, err := exec.LookPath(filepath.Base(to))
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
