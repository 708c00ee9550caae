package runtimetest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"muelle/internal/logdriver"
	"muelle/internal/runtime"
)

const daemonVariable = "MUELLE_RUNTIMETEST_DAEMON"

// order is what the daemon of a restart test starts.
type order struct {
	Root, Rootfs, Parent string
	Containers           []orderedContainer
}

type orderedContainer struct {
	ID, Dir, Log string
	Args         []string
	OpenStdin    bool
	Held         []string // "tcp", "udp", "relay-tcp", "relay-udp"
}

// Daemon is called at the beginning of TestMain: in the subprocess of a restart
// test it plays the daemon that will be killed, and does not return.
func Daemon(newRuntime func(t testing.TB, execRoot string) (runtime.Runtime, func())) {
	text := os.Getenv(daemonVariable)
	if text == "" {
		return
	}
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fail(err)
	}
	r, _ := newRuntime(nil, o.Root)
	for _, oc := range o.Containers {
		c := &runtime.Container{
			ID: oc.ID, Dir: oc.Dir, Spec: Spec("/"+o.Parent+"/"+oc.ID, oc.Args...),
			Rootfs:    []runtime.Mount{{Type: "bind", Source: o.Rootfs, Options: []string{"rbind"}}},
			Log:       logdriver.Config{Type: "json-file", Path: oc.Log, MaxFile: 1},
			OpenStdin: oc.OpenStdin,
			// An attached client dies with the daemon and must not hold the process up.
			Attach: []*runtime.Streams{{Stdout: discard{}}},
		}
		for _, kind := range oc.Held {
			h, err := hold(kind)
			if err != nil {
				fail(err)
			}
			c.Held = append(c.Held, h)
		}
		task, err := r.Start(context.Background(), c)
		if err != nil {
			fail(err)
		}
		fmt.Println(oc.ID, task.Pid())
	}
	fmt.Println("ready")
	select {}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func fail(err error) {
	fmt.Fprintln(os.Stderr, "daemon:", err)
	os.Exit(1)
}

// echoTCP and echoUDP are where the relays of the tests lead.
const (
	echoAddr  = "127.0.0.1:47391"
	relayAddr = "[::1]:47392"
)

func hold(kind string) (h runtime.Held, err error) {
	h.Name = kind
	switch kind {
	case "tcp", "relay-tcp":
		addr := "127.0.0.1:0"
		if kind == "relay-tcp" {
			addr = relayAddr
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return h, err
		}
		if h.File, err = l.(*net.TCPListener).File(); err != nil {
			return h, err
		}
		l.Close()
	default:
		addr := "127.0.0.1:0"
		if kind == "relay-udp" {
			addr = relayAddr
		}
		l, err := net.ListenPacket("udp", addr)
		if err != nil {
			return h, err
		}
		if h.File, err = l.(*net.UDPConn).File(); err != nil {
			return h, err
		}
		l.Close()
	}
	if kind == "relay-tcp" || kind == "relay-udp" {
		h.RelayTo, h.Datagram = netip.MustParseAddrPort(echoAddr), kind == "relay-udp"
	}
	return h, nil
}

// runDaemon starts the subprocess and returns when its containers run.
func (h *host) runDaemon(t *testing.T, containers ...orderedContainer) (kill func(), pids map[string]int) {
	t.Helper()
	for i := range containers {
		c := &containers[i]
		c.ID = newID()
		c.Dir = h.root + "/containers/" + c.ID
		c.Log = h.root + "/" + c.ID + ".log"
		must(t, os.MkdirAll(c.Dir, 0o700))
	}
	text, err := json.Marshal(order{h.root, h.s.rootfs, h.s.env.CgroupParent, containers})
	must(t, err)
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), daemonVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	pids = map[string]int{}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "ready" {
		var id string
		var pid int
		_, err := fmt.Sscan(lines.Text(), &id, &pid)
		must(t, err)
		pids[id] = pid
	}
	killed := false
	kill = func() {
		if !killed {
			killed = true
			cmd.Process.Kill()
			cmd.Wait()
		}
	}
	t.Cleanup(kill)
	if len(pids) != len(containers) {
		kill()
		t.Fatal("the daemon did not start its containers")
	}
	return kill, pids
}
