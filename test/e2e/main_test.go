//go:build root

// Package e2e drives the real binaries through their real sockets: the daemon with
// the unmodified Docker client and with muelle, Compose projects, and the example.
// The ring runs in two parts, each in a network and a mount namespace of its own, with
// another network namespace as "outside", so nothing of the host's is changed.
package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const (
	insideEnv = "MUELLE_E2E_INSIDE"
	// In the virtual machine of test/vm nothing can be compiled: the echo program and
	// busybox's file system are given.
	echoEnv      = "MUELLE_E2E_ECHO"
	imageEnv     = "MUELLE_E2E_IMAGE"
	registryAddr = "127.0.0.1:5050"
	// Addresses of the machine under test and of its neighbour, from TEST-NET-1.
	hostAddr    = "192.0.2.1"
	outsideAddr = "192.0.2.2"
)

// The world that all tests share. It is made by TestMain before any test runs.
var world struct {
	dir     string
	bin     string
	echo    string // the program in the folder of that name
	outside netns.NsHandle
	daemon  *daemon
}

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		os.Exit(reexec())
	}
	if flag.Parse(); flag.Lookup("test.list").Value.String() != "" {
		os.Exit(m.Run())
	}
	code, err := inside(m)
	if err != nil {
		log.Print(err)
		code = 1
	}
	os.Exit(code)
}

// reexec runs this test binary again in namespaces of its own: once, or for many tests
// in several parts.
func reexec() int {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var mu sync.Mutex
	var started []*os.Process
	start := func(cmd *exec.Cmd) error {
		cmd.Env = append(cmd.Env, insideEnv+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
		mu.Lock()
		defer mu.Unlock()
		if err := cmd.Start(); err != nil {
			return err
		}
		started = append(started, cmd.Process)
		return nil
	}
	go func() {
		for s := range signals {
			mu.Lock()
			for _, p := range started {
				p.Signal(s)
			}
			mu.Unlock()
		}
	}()
	names, err := toDeal()
	if err != nil {
		log.Print(err)
		return 1
	}
	if names != nil {
		return deal(names, start)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = os.Environ()
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := start(cmd); err != nil {
		log.Print(err)
		return 1
	}
	if err := cmd.Wait(); err != nil {
		return 1
	}
	return 0
}

func inside(m *testing.M) (code int, err error) {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return 1, fmt.Errorf("make mounts private: %w", err)
	}
	// Below /var/tmp: overlay needs a real file system for its upper directories.
	world.dir, err = os.MkdirTemp("/var/tmp", "muelle-e2e-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(world.dir)
	if world.bin, err = filepath.Abs("../../bin"); err != nil {
		return 1, err
	}
	if err := buildEcho(); err != nil {
		return 1, err
	}
	if err := makeNetwork(); err != nil {
		return 1, fmt.Errorf("make the test's network: %w", err)
	}
	stopDNS, err := startDNS()
	if err != nil {
		return 1, fmt.Errorf("start the outside name server: %w", err)
	}
	defer stopDNS()
	stopRegistry, err := startRegistry()
	if err != nil {
		return 1, err
	}
	defer stopRegistry()
	world.daemon = newDaemon("main")
	if err := world.daemon.start(); err != nil {
		return 1, err
	}
	defer func() {
		if serr := world.daemon.shutdown(); serr != nil && err == nil {
			code, err = 1, serr
		}
		if lerr := leftovers(); lerr != nil && err == nil {
			code, err = 1, lerr
		}
	}()
	if os.Getenv(partEnv) == "" {
		if err := makeStandins(); err != nil {
			return 1, err
		}
		return m.Run(), nil
	}
	if err := alone(makeStandins); err != nil {
		return 1, err
	}
	return play(m), nil
}

// makeNetwork gives this namespace an interface towards the outside one, with the
// default route.
func makeNetwork() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close()
	if world.outside, err = netns.New(); err != nil {
		return err
	}
	if err := upWith("lo", ""); err != nil {
		return err
	}
	if err := netns.Set(here); err != nil {
		return err
	}
	if err := upWith("lo", ""); err != nil {
		return err
	}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink", MTU: 1500}, PeerName: "lan", PeerNamespace: netlink.NsFd(int(world.outside))}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	if err := upWith("uplink", hostAddr+"/24"); err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(outsideAddr)}); err != nil {
		return err
	}
	if err := netns.Set(world.outside); err != nil {
		return err
	}
	if err := upWith("lan", outsideAddr+"/24"); err != nil {
		return err
	}
	return netns.Set(here)
}

// held are the names below held.example.test: of each the first question is answered, when
// a test says so by closing what it finds in asked, and no other.
var held = struct {
	names sync.Map
	asked chan chan struct{}
}{asked: make(chan chan struct{})}

// startDNS serves names below example.test in the outside namespace and makes it
// the resolver of this mount namespace.
func startDNS() (stop func(), err error) {
	var servers []*dns.Server
	mux := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(q)
		waits := strings.HasSuffix(q.Question[0].Name, ".held.example.test.")
		if waits {
			if _, again := held.names.LoadOrStore(q.Question[0].Name, true); again {
				return
			}
			answer := make(chan struct{})
			held.asked <- answer
			<-answer
		}
		if name := q.Question[0].Name; name == "www.example.test." || waits {
			if rr, err := dns.NewRR(q.Question[0].Name + " 60 IN A " + outsideAddr); err == nil && q.Question[0].Qtype == dns.TypeA {
				r.Answer = []dns.RR{rr}
			}
		} else {
			r.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(r)
	})
	err = outside(func() error {
		pc, err := net.ListenPacket("udp", outsideAddr+":53")
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", outsideAddr+":53")
		if err != nil {
			return err
		}
		servers = []*dns.Server{{PacketConn: pc, Handler: mux}, {Listener: l, Handler: mux}}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, s := range servers {
		go s.ActivateAndServe()
	}
	conf := filepath.Join(world.dir, "resolv.conf")
	if err := os.WriteFile(conf, []byte("nameserver "+outsideAddr+"\n"), 0o644); err != nil {
		return nil, err
	}
	if err := syscall.Mount(conf, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("bind resolv.conf: %w", err)
	}
	return func() {
		for _, s := range servers {
			s.Shutdown()
		}
	}, nil
}

func startRegistry() (stop func(), err error) {
	logFile, err := os.Create(filepath.Join(world.dir, "registry.log"))
	if err != nil {
		return nil, err
	}
	root := os.Getenv("MUELLE_TEST_REGISTRY") // kept between runs, for who works on a test
	if root == "" {
		root = filepath.Join(cmp.Or(os.Getenv(partEnv), world.dir), "registry")
	}
	cmd := exec.Command(filepath.Join(world.bin, "muelle-registry"), "--addr", registryAddr, "--root", root)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the registry: %w (make build first)", err)
	}
	err = eventually(30*time.Second, func() error {
		resp, err := http.Get("http://" + registryAddr + "/v2/")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if err != nil {
		return nil, fmt.Errorf("the registry does not answer: %w\n%s", err, tail(logFile.Name()))
	}
	return func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	}, nil
}

// makeStandins fills the registry with the base images and leaves none of them in
// the daemon's own store: tests pull them.
func makeStandins() error {
	if path := os.Getenv(imageEnv); path != "" {
		return importStandin(path)
	}
	cmd := exec.Command("../../hack/images/build.sh", registryAddr)
	cmd.Env = append(os.Environ(), "MUELLE_HOST="+world.daemon.host(), "MUELLE="+filepath.Join(world.bin, "muelle"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("make the stand-ins: %w\n%s", err, out)
	}
	return nil
}

// buildEcho finds or makes the echo program.
func buildEcho() error {
	if world.echo = os.Getenv(echoEnv); world.echo != "" {
		return nil
	}
	world.echo = filepath.Join(world.dir, "echo")
	build := exec.Command("go", "build", "-o", world.echo, "./echo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the echo program: %w: %s", err, out)
	}
	return nil
}

// emulated tells whether this is the virtual machine of test/vm.
func emulated() bool { return os.Getenv(imageEnv) != "" }

// importStandin pushes one archive to the registry as busybox and alpine.
func importStandin(path string) error {
	muelle := filepath.Join(world.bin, "muelle")
	for _, name := range []string{"busybox:latest", "busybox:1.36", "alpine:latest", "alpine:3.20"} {
		image := registryAddr + "/library/" + name
		for _, args := range [][]string{
			{"import", "-c", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "-c", `CMD ["sh"]`, path, image},
			{"push", "-q", image}, {"rmi", image},
		} {
			cmd := exec.Command(muelle, args...)
			cmd.Env = append(os.Environ(), "MUELLE_HOST="+world.daemon.host())
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("muelle %v: %w\n%s", args, err, out)
			}
		}
	}
	return nil
}

// eventually repeats f until it succeeds or the patience is over. It is the one
// place where a test waits for something that announces itself in no other way.
func eventually(patience time.Duration, f func() error) error {
	if emulated() {
		patience *= 6
	}
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-time.After(50 * time.Millisecond)
	}
}

func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 4000
	if len(data) > most {
		data = data[len(data)-most:]
	}
	return string(data)
}
