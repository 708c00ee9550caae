//go:build root

package network_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	mobynet "github.com/moby/moby/api/types/network"
	"github.com/vishvananda/netlink"

	"muelle/internal/id"
	"muelle/internal/linux/netns"
	"muelle/internal/linux/netns/netnstest"
	"muelle/internal/linux/rtnl"
	"muelle/internal/network"
)

func TestMain(m *testing.M) { netnstest.MainApart(m) }

// world is a host with a neighbour on its LAN, and a Service.
type world struct {
	testing.TB
	*network.Service
	options network.Options
	lan     *os.File
	log     *logBuffer
	mu      sync.Mutex
	shims   map[string]*network.Sandbox
}

const (
	hostOnLAN      = "192.0.2.2"
	neighbourOnLAN = "192.0.2.1"
)

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, log: &logBuffer{}, shims: map[string]*network.Sandbox{}}
	must(t, rtnl.LoopbackUp())
	lan, err := netns.New(rtnl.LoopbackUp)
	must(t, err)
	w.lan = lan
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink", MTU: 1400}, PeerName: "lan0", PeerNamespace: netlink.NsFd(int(lan.Fd()))}
	must(t, netlink.LinkAdd(link))
	must(t, rtnl.Configure("uplink", []netip.Prefix{netip.MustParsePrefix(hostOnLAN + "/24")}, netip.MustParseAddr(neighbourOnLAN)))
	must(t, netns.Do(lan, func() error {
		// The neighbour sends everything to the host: it tries to reach containers directly.
		return rtnl.Configure("lan0", []netip.Prefix{netip.MustParsePrefix(neighbourOnLAN + "/24")}, netip.MustParseAddr(hostOnLAN))
	}))
	must(t, rtnl.Carry("uplink"))
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	must(t, os.WriteFile(resolv, []byte("nameserver 127.0.0.1\nsearch example.org\n"), 0o600))
	w.options = network.Options{
		Root: filepath.Join(t.TempDir(), "networks"), Pending: filepath.Join(t.TempDir(), "lookups"), Instance: "1a2b3c4d", ResolvConf: resolv,
		Log: slog.New(slog.NewTextHandler(w.log, nil)),
	}
	w.open()
	t.Cleanup(func() {
		for id := range w.shims {
			w.stop(id)
		}
		must(t, w.Service.Close(context.Background()))
		w.clean()
		must(t, netlink.LinkDel(link))
		lan.Close()
	})
	return w
}

func (w *world) open() {
	w.Helper()
	s, err := network.Open(context.Background(), w.options)
	must(w.TB, err)
	w.Service = s
}

// clean proves that nothing of ours is left.
func (w *world) clean() {
	w.Helper()
	links, err := rtnl.Links("mue")
	must(w.TB, err)
	for _, l := range links {
		w.Errorf("interface %s (%s) is left", l.Name, l.Alias)
	}
	if out := run(w.TB, "nft", "list", "ruleset"); strings.Contains(out, "muelle") {
		w.Errorf("rules are left:\n%s", out)
	}
	if !rtnl.SysctlIs("ipv4/ip_forward", 0) {
		w.Error("ip_forward is left on")
	}
	if !rtnl.SysctlIs("ipv6/conf/all/forwarding", 0) {
		w.Error("forwarding of IPv6 is left on")
	}
}

func (w *world) network(name string, change ...func(*mobynet.CreateRequest)) string {
	w.Helper()
	r := mobynet.CreateRequest{Name: name}
	for _, f := range change {
		f(&r)
	}
	res, err := w.Create(context.Background(), r)
	must(w.TB, err)
	return res.ID
}

func internal(r *mobynet.CreateRequest) { r.Internal = true }

func spec(name string, networks ...string) network.SandboxSpec {
	s := network.SandboxSpec{ID: id.New(), Name: name, Mode: networks[0]}
	for _, n := range networks {
		s.Endpoints = append(s.Endpoints, network.EndpointSpec{Network: n})
	}
	return s
}

// start prepares a container; the test is its shim.
func (w *world) start(s network.SandboxSpec) *network.Sandbox {
	w.Helper()
	sb, err := w.Prepare(context.Background(), s)
	must(w.TB, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shims[sb.ID] = sb
	return sb
}

func (w *world) stop(id string) {
	w.Helper()
	must(w.TB, w.shims[id].Close())
	delete(w.shims, id)
	must(w.TB, w.Release(context.Background(), id))
}

func (w *world) address(sb *network.Sandbox, net string) string {
	w.Helper()
	e := sb.Endpoints[net]
	if e == nil {
		w.Fatalf("no endpoint on %s", net)
	}
	return e.IPAddress.String()
}

// serve answers every connection or datagram with text, inside ns (nil: the host).
func (w *world) serve(ns *os.File, proto, addr, text string) {
	w.Helper()
	must(w.TB, in(ns, func() error {
		family := "4"
		if p, ok := strings.CutSuffix(proto, "6"); ok {
			proto, family = p, "6"
		}
		if proto == "udp" {
			c, err := net.ListenPacket("udp"+family, addr)
			if err != nil {
				return err
			}
			w.Cleanup(func() { c.Close() })
			go func() {
				buf := make([]byte, 1500)
				for {
					_, from, err := c.ReadFrom(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(text+" "+from.String()), from)
				}
			}()
			return nil
		}
		l, err := net.Listen("tcp"+family, addr)
		if err != nil {
			return err
		}
		w.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, text+" "+c.RemoteAddr().String())
				c.Close()
			}
		}()
		return nil
	}))
}

// ask connects from ns and gives what is answered: the text and the peer's address.
func ask(ns *os.File, proto, addr string, patience time.Duration) (text, peer string, err error) {
	err = in(ns, func() error {
		c, err := net.DialTimeout(proto, addr, patience)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if strings.HasPrefix(proto, "udp") {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
			buf := make([]byte, 1500)
			n, err := c.Read(buf)
			text, peer, _ = strings.Cut(string(buf[:n]), " ")
			return err
		}
		data, err := io.ReadAll(c)
		text, peer, _ = strings.Cut(string(data), " ")
		if err == nil && text == "" {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	return text, peer, err
}

func (w *world) reaches(from *os.File, proto, addr, want string) {
	w.Helper()
	if got, _, err := ask(from, proto, addr, 5*time.Second); err != nil || got != want {
		w.Errorf("%s %s answers %q, %v; want %q", proto, addr, got, err, want)
	}
}

func (w *world) cannotReach(from *os.File, proto, addr string) {
	w.Helper()
	if got, peer, err := ask(from, proto, addr, 300*time.Millisecond); err == nil {
		w.Errorf("%s %s answers %q to %s; it must not be reachable", proto, addr, got, peer)
	}
}

func in(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	return netns.Do(ns, f)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const slow = 5 * time.Second

func soon() time.Time { return time.Now().Add(200 * time.Millisecond) }

// eventually tries until it works; the deadline is that of a hung test.
func (w *world) eventually(f func() error) {
	w.Helper()
	var err error
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); {
		if err = f(); err == nil {
			return
		}
		<-time.After(10 * time.Millisecond) // what is waited for needs the processor
	}
	w.Fatal(err)
}

// kill leaves everything as a daemon that was killed does: the descriptors of the
// old Service close, the shims' stay.
func (w *world) kill() {
	w.Helper()
	must(w.TB, w.Service.Close(context.Background()))
}

// adopt hands a running container to the new Service, as the container service does.
func (w *world) adopt(s network.SandboxSpec, sb *network.Sandbox) {
	w.Helper()
	for i, e := range s.Endpoints {
		s.Endpoints[i].Settings = sb.Endpoints[e.Network]
	}
	held := map[string]*os.File{}
	for _, h := range sb.Held {
		held[h.Name] = w.dup(h.File)
	}
	must(w.TB, w.Adopt(context.Background(), s, held, w.dup(sb.NetNS)))
}

func (w *world) dup(f *os.File) *os.File {
	w.Helper()
	fd, err := syscall.Dup(int(f.Fd()))
	must(w.TB, err)
	return os.NewFile(uintptr(fd), f.Name())
}

func (w *world) listen6(a netip.Addr) error {
	l, err := net.Listen("tcp6", netip.AddrPortFrom(a, 80).String())
	if err != nil {
		return err
	}
	w.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "six peer")
			c.Close()
		}
	}()
	return nil
}
