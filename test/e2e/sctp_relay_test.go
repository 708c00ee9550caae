//go:build root && vm

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// association is a one-to-one socket of SCTP that shows what package net hides.
type association struct{ fd int }

// parcel is a message with what SCTP carries beside its bytes.
type parcel struct {
	Text      string
	Stream    uint16
	PPID      uint32
	Unordered bool
}

// associateBy makes an association that asks for so many streams in both directions.
func associateBy(to string, streams uint16) (*association, error) {
	at := netip.MustParseAddrPort(to)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return nil, err
	}
	var initial [8]byte
	binary.NativeEndian.PutUint16(initial[:], streams)
	binary.NativeEndian.PutUint16(initial[2:], streams)
	wait := unix.NsecToTimeval((10 * time.Second).Nanoseconds())
	err = errors.Join(
		unix.SetsockoptString(fd, unix.IPPROTO_SCTP, 2, string(initial[:])),
		unix.SetsockoptInt(fd, unix.IPPROTO_SCTP, 32, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2<<20),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait))
	if err == nil {
		err = connected(fd, unix.Connect(fd, &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("associate with %s: %w", to, err)
	}
	return &association{fd}, nil
}

// connected waits for what a signal to this process has interrupted.
func connected(fd int, err error) error {
	for err == unix.EINTR || err == unix.EALREADY {
		if _, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 10_000); err == nil {
			var code int
			if code, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
				return syscall.Errno(code)
			}
		}
	}
	if err == unix.EISCONN {
		return nil
	}
	return err
}

// uninterrupted makes a call again that a signal to this process has interrupted: with a
// time limit of the socket the kernel does not.
func uninterrupted(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// close is told once or more.
func (a *association) close() {
	if a.fd >= 0 {
		unix.Close(a.fd)
	}
	a.fd = -1
}

func (a *association) send(p parcel) error {
	b := make([]byte, unix.CmsgSpace(16))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = unix.IPPROTO_SCTP, 2
	h.SetLen(unix.CmsgLen(16))
	data := b[unix.CmsgLen(0):]
	binary.NativeEndian.PutUint16(data, p.Stream)
	if p.Unordered {
		data[2] = 1
	}
	binary.NativeEndian.PutUint32(data[4:], p.PPID)
	return uninterrupted(func() error {
		_, err := unix.SendmsgN(a.fd, []byte(p.Text), b, nil, unix.MSG_NOSIGNAL)
		return err
	})
}

// receive gives a whole message; no text is the association's end.
func (a *association) receive() (p parcel, err error) {
	buf, oob := make([]byte, 1<<20), make([]byte, 200)
	var text []byte
	for {
		var n, oobn, flags int
		err := uninterrupted(func() (err error) {
			n, oobn, flags, _, err = unix.Recvmsg(a.fd, buf, oob, 0)
			return err
		})
		if err != nil || n == 0 {
			return p, err
		}
		text = append(text, buf[:n]...)
		if flags&unix.MSG_EOR == 0 {
			continue
		}
		list, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(list) != 1 || list[0].Header.Type != 3 {
			return p, fmt.Errorf("control messages %v, %v", list, err)
		}
		info := list[0].Data
		return parcel{string(text), binary.NativeEndian.Uint16(info), binary.NativeEndian.Uint32(info[8:]), info[4]&1 != 0}, nil
	}
}

// ask sends a word and gives the answer's text.
func (a *association) ask(word string) (string, error) {
	if err := a.send(parcel{Text: word}); err != nil {
		return "", err
	}
	p, err := a.receive()
	return p.Text, err
}

// askOnce does it by an association of its own.
func askOnce(to, word string) (string, error) {
	a, err := associateBy(to, 10)
	if err != nil {
		return "", err
	}
	defer a.close()
	return a.ask(word)
}

// relayedAt associates, once the program in the container listens.
func relayedAt(t *testing.T, to string, streams uint16) *association {
	t.Helper()
	var a *association
	if err := eventually(30*time.Second, func() (err error) {
		if a, err = associateBy(to, streams); err != nil {
			return err
		}
		if _, err = a.ask("x"); err != nil {
			a.close()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	return a
}

// quickPaths has new sockets ask further addresses of a peer at once whether they live. It is
// less patience than answers to data may ask for.
func quickPaths(t *testing.T) {
	t.Helper()
	for _, name := range []string{"rto_initial", "rto_min"} {
		path := "/proc/sys/net/sctp/" + name
		old, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, []byte("100"), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.WriteFile(path, old, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// pathsKnown waits until the addresses of the peer at a port, or one of them, have been asked
// whether they live, and tells how many there are.
func pathsKnown(port, only string) (n int, err error) {
	err = eventually(20*time.Second, func() error {
		assocs, err := os.ReadFile("/proc/thread-self/net/sctp/assocs")
		if err != nil {
			return err
		}
		ids := map[string]bool{}
		for line := range strings.Lines(string(assocs)) {
			// The relay's own are those from 127.0.0.1.
			if f := strings.Fields(line); len(f) > 14 && f[12] == port && (f[13] != "127.0.0.1" || f[14] != "<->") {
				ids[f[6]] = true
			}
		}
		list, err := os.ReadFile("/proc/thread-self/net/sctp/remaddr")
		if err != nil {
			return err
		}
		n = 0
		var quickest uint64
		var unasked string
		for line := range strings.Lines(string(list)) {
			f := strings.Fields(line)
			if len(f) < 8 || !ids[f[1]] {
				continue
			}
			a, err := netip.ParseAddr(f[0])
			if err != nil {
				return err
			}
			rto, err := strconv.ParseUint(f[3], 10, 64)
			if err != nil {
				return err
			}
			if quickest == 0 || rto < quickest {
				quickest = rto
			}
			if only != "" && a.String() != only {
				continue
			}
			// Who does not answer is given longer the next time.
			if n++; f[7] == "3" && rto == quickest {
				unasked = line
			}
		}
		if unasked != "" {
			return fmt.Errorf("not asked yet: %s", unasked)
		}
		if n == 0 {
			return fmt.Errorf("no association to port %s: %s%s", port, assocs, list)
		}
		return nil
	})
	return n, err
}

// relaysSCTP: what comes by IPv6 to a container without it, or to [::1], is relayed with
// what SCTP carries. plain and both are those of TestSCTP.
func relaysSCTP(t *testing.T, c client, d *daemon, here string) {
	t.Run("addresses", func(t *testing.T) { relayedAddresses(t, here) })
	t.Run("messages", relayedMessages)
	t.Run("ends", relayedEnds)
	t.Run("flood", func(t *testing.T) { relayedFlood(t, c) })
	t.Run("zone", func(t *testing.T) { relayedIntoZone(t, c, here) })
	t.Run("changes", func(t *testing.T) { relayedChanges(t, c, d, here) })
}

// relayedAddresses: at every address of this host, and from outside. An association
// survives that its peer's further addresses are asked.
func relayedAddresses(t *testing.T, here string) {
	quickPaths(t)
	for _, tc := range []struct {
		outside  bool
		to, also string
	}{
		{false, "[::1]:18300", ""}, {false, "[::1]:18311", ""}, {false, "[::1]:18301", ""}, {false, "[::1]:18321", ""}, {false, "[::1]:18324", ""}, {false, "[" + here + "]:18300", ""},
		{true, "[" + here + "]:18300", hostAddr}, {true, "[" + here + "]:18312", here}, {true, "[" + here + "]:18301", here},
	} {
		begun := time.Now()
		place := func(f func() error) error { return f() }
		if tc.outside {
			place = outside
		}
		if err := place(func() error {
			a := (*association)(nil)
			if err := eventually(30*time.Second, func() (err error) { a, err = associateBy(tc.to, 10); return err }); err != nil {
				return err
			}
			defer a.close()
			who, err := a.ask("who")
			if err != nil || (!strings.HasPrefix(who, "plain ") && !strings.HasPrefix(who, "both ")) {
				return fmt.Errorf("who: %q, %w", who, err)
			}
			n, err := pathsKnown(tc.to[strings.LastIndex(tc.to, ":")+1:], tc.also)
			if err != nil {
				return err
			}
			again, err := a.ask("who")
			if again != who {
				return fmt.Errorf("with %d addresses asked: %q, %w", n, again, err)
			}
			t.Logf("%+v: %s, %d addresses, %v", tc, who, n, time.Since(begun))
			return nil
		}); err != nil {
			t.Errorf("%+v: %v, %v", tc, err, time.Since(begun))
		}
	}
	for _, to := range []string{"[" + here + "]:18311", "[" + here + "]:18314", "[::1]:18312"} {
		begun := time.Now()
		if a, err := associateBy(to, 10); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v, %v", to, a, err)
		}
		t.Logf("%s: refused after %v", to, time.Since(begun))
	}
}

// relayedMessages keep their bounds, streams, identifiers and order, also large ones.
func relayedMessages(t *testing.T) {
	a := relayedAt(t, "[::1]:18300", 30)
	if got, err := a.ask("streams"); got != "30 in 30 out" {
		t.Errorf("the container has streams %q, %v", got, err)
	}
	var list []parcel
	for i := range uint16(30) {
		list = append(list, parcel{strings.Repeat(string(rune('a'+i)), 1+100*int(i)), i, 0x01020304 + uint32(i), false}, parcel{fmt.Sprintf("two %d", i), i, 7, false})
	}
	list = append(list, parcel{strings.Repeat("large", 60<<10), 29, 46, false})
	got := make([]parcel, 0, len(list))
	for begin := 0; begin < len(list); begin += 16 {
		part := list[begin:min(begin+16, len(list))]
		for _, p := range part {
			if err := a.send(p); err != nil {
				t.Fatal(err)
			}
		}
		for range part {
			p, err := a.receive()
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, p)
		}
	}
	// Streams are in order each, and not among themselves.
	by := func(p, q parcel) int { return int(p.Stream) - int(q.Stream) }
	slices.SortStableFunc(got, by)
	slices.SortStableFunc(list, by)
	if len(got) != len(list) {
		t.Fatalf("%d of %d messages", len(got), len(list))
	}
	for i := range list {
		if got[i] != list[i] {
			t.Errorf("message %d: %.20q by %d, %x, want %.20q by %d, %x", i, got[i].Text, got[i].Stream, got[i].PPID, list[i].Text, list[i].Stream, list[i].PPID)
		}
	}
	if got, err := a.ask("count " + strings.Repeat("x", 1<<20)); got != strconv.Itoa(1<<20+6) {
		t.Errorf("of a large message the container counts %s, %v", got, err)
	}
	loose := parcel{"loose", 3, 9, true}
	if err := a.send(loose); err != nil {
		t.Fatal(err)
	}
	if p, err := a.receive(); err != nil || cmp.Diff(loose, p) != "" {
		t.Errorf("unordered: %+v, %v", p, err)
	}
	// The program takes forty.
	if got, err := relayedAt(t, "[::1]:18300", 400).ask("streams"); got != "40 in 40 out" {
		t.Errorf("the container has streams %q, %v", got, err)
	}
}

// relayedEnds go over to the other side as they are.
func relayedEnds(t *testing.T) {
	const to = "[::1]:18300"
	// The program's.
	a := relayedAt(t, to, 10)
	if text, err := a.ask("bye"); text != "bye" || err != nil {
		t.Errorf("bye: %q, %v", text, err)
	}
	if p, err := a.receive(); p.Text != "" || err != nil {
		t.Errorf("after bye: %+v, %v", p, err)
	}
	a = relayedAt(t, to, 10)
	if text, err := a.ask("abort"); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("abort: %q, %v", text, err)
	}
	// The client's.
	watcher, orderly, rude := relayedAt(t, to, 10), relayedAt(t, to, 10), relayedAt(t, to, 10)
	var ends, aborts int
	text, err := watcher.ask("ended")
	if n, _ := fmt.Sscanf(text, "%d ends, %d aborts", &ends, &aborts); n != 2 {
		t.Fatalf("ended: %q, %v", text, err)
	}
	ended := func() {
		t.Helper()
		want := fmt.Sprintf("%d ends, %d aborts", ends, aborts)
		if err := eventually(20*time.Second, func() error {
			if text, err := watcher.ask("ended"); text != want {
				return fmt.Errorf("the container counts %q, %v, want %q", text, err, want)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	if err := unix.Shutdown(orderly.fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	ends++
	ended()
	if err := unix.SetsockoptLinger(rude.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		t.Fatal(err)
	}
	rude.close()
	aborts++
	ended()
}

// relayedFlood: who does not read holds the sender up, and the shim's memory stays small.
func relayedFlood(t *testing.T, c client) {
	const messages = 160 // of 64 KiB
	a, other := relayedAt(t, "[::1]:18300", 10), relayedAt(t, "[::1]:18300", 10)
	shim := shimOf(t, c, "plain")
	if err := a.send(parcel{Text: fmt.Sprintf("flood %d", messages), Stream: 4, PPID: 5}); err != nil {
		t.Fatal(err)
	}
	before := ""
	if err := eventually(30*time.Second, func() error {
		now, err := other.ask("sent")
		if err != nil || now == "0" || now != before {
			before = now
			return fmt.Errorf("%s are sent, %v", now, err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if n, _ := strconv.Atoi(before); n > messages/2 {
		t.Errorf("%d of %d messages were taken from the sender while nobody read", n, messages)
	}
	want := make([]byte, 64<<10)
	for i := range messages {
		p, err := a.receive()
		binary.BigEndian.PutUint32(want, uint32(i))
		if err != nil || !bytes.Equal([]byte(p.Text), want) || p.Stream != 4 || p.PPID != 5 {
			t.Fatalf("message %d: %d bytes by %d, %d, %v", i, len(p.Text), p.Stream, p.PPID, err)
		}
	}
	if kib := peak(t, shim); kib > 16<<10 {
		t.Errorf("the shim took %d KiB", kib)
	}
}

var peakLine = regexp.MustCompile(`(?m)^VmHWM:\s+(\d+) kB$`)

// peak is what a process had in memory at most, in KiB.
func peak(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := peakLine.FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the shim: %d KiB at most", n)
	return n
}

// shimOf is the parent of a container's first process.
func shimOf(t *testing.T, c client, name string) int {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + c.must(t, "inspect", "-f", "{{.State.Pid}}", name) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	pid, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// relayedIntoZone: who may use a relay is what the zone says, of associations that are
// there too.
func relayedIntoZone(t *testing.T, c client, here string) {
	file := filepath.Join(t.TempDir(), "compose.yaml")
	up := func(publish string) {
		t.Helper()
		text := fmt.Sprintf("services:\n  web: {image: busybox, command: [/echo, sctp, '80', '40'], volumes: ['%s:/echo:ro'], ports: ['18320:80/sctp'], stop_signal: KILL}\n"+
			"networks: {default: {x-zone: {publish: %s}}}\n", world.echo, publish)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.must(t, "compose", "-p", "zonedsctp", "-f", file, "up", "-d")
	}
	up("lan")
	t.Cleanup(func() { c.must(t, "compose", "-p", "zonedsctp", "-f", file, "down") })
	near, to := relayedAt(t, "[::1]:18320", 10), "["+here+"]:18320"
	var far *association
	if err := outside(func() (err error) { far, err = associateBy(to, 10); return err }); err != nil {
		t.Fatal(err)
	}
	defer far.close()
	if text, err := far.ask("in"); text != "in" {
		t.Fatalf("from the LAN: %q, %v", text, err)
	}
	up("host")
	short := unix.NsecToTimeval((700 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(far.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &short); err != nil {
		t.Fatal(err)
	}
	if text, err := far.ask("still in"); text != "" {
		t.Errorf("from the LAN after the zone was shut: %q, %v", text, err)
	}
	if err := outside(func() error {
		conn, err := associate("", to, 700*time.Millisecond)
		if err != nil {
			return nil
		}
		conn.Close()
		return errors.New("it is let in")
	}); err != nil {
		t.Errorf("from the LAN anew: %v", err)
	}
	if text, err := near.ask("here"); text != "here" {
		t.Errorf("from this host: %q, %v", text, err)
	}
}

// relayedChanges: the daemon's end is not noticed, ports come and go, and nothing is left.
func relayedChanges(t *testing.T, c client, d *daemon, here string) {
	a := relayedAt(t, "[::1]:18300", 10)
	d.kill(t)
	if text, err := a.ask("alone"); text != "alone" {
		t.Errorf("without a daemon: %q, %v", text, err)
	}
	if text, err := askOnce("["+here+"]:18300", "new"); text != "new" {
		t.Errorf("a new one without a daemon: %q, %v", text, err)
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if text, err := a.ask("back"); text != "back" {
		t.Errorf("with a new daemon: %q, %v", text, err)
	}
	c.must(t, "update", "--publish-add", "[::1]:18315:80/sctp", "--publish-add", "18316-18318:80/sctp", "plain")
	late := relayedAt(t, "[::1]:18315", 10)
	relayedAt(t, "[::1]:18316", 10)
	translated, err := associateBy("127.0.0.1:18316", 10)
	if err != nil {
		t.Fatal(err)
	}
	defer translated.close()
	for _, tc := range []struct{ publish, want string }{
		{"[::1]:18315:80/sctp", "Bind for [::1]:18315 failed: port is already allocated (by container plain)"},
		{"18300:80/sctp", "Bind for 0.0.0.0:18300 failed: port is already allocated (by container plain)"},
	} {
		if r := c.try(t, "run", "--rm", "-p", "[::1]:18319:80/sctp", "-p", tc.publish, "busybox", "true"); r.code != 125 || !strings.Contains(r.err, tc.want) {
			t.Errorf("-p %s: %+v, want %q", tc.publish, r, tc.want)
		}
	}
	// What was refused took nothing with it, and other protocols have numbers of their own.
	c.must(t, "run", "--rm", "-p", "[::1]:18319:80/sctp", "-p", "18300:80/tcp", "-p", "18300:80/udp", "busybox", "true")
	c.must(t, "update", "--publish-rm", "[::1]:18315:80/sctp", "plain")
	c.must(t, "update", "--publish-rm", "18316:80/sctp", "plain")
	if text, err := translated.ask("gone"); text != "" {
		t.Errorf("the translated association of a port that was taken back: %q, %v", text, err)
	}
	if p, err := late.receive(); p.Text != "" {
		t.Errorf("the association of a port that was taken back: %+v, %v", p, err)
	}
	if r := c.try(t, "explain", "host", "[::1]:18300/sctp"); r.code != 0 {
		t.Errorf("explain: %+v", r)
	}
	c.must(t, "network", "disconnect", "bridge", "plain")
	if p, err := a.receive(); p.Text != "" {
		t.Errorf("the association of a container that was disconnected: %+v, %v", p, err)
	}
	for _, to := range []string{"[::1]:18315", "[::1]:18300", "[" + here + "]:18312"} {
		if x, err := associateBy(to, 10); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s after its end: %v, %v", to, x, err)
		}
	}
	c.must(t, "rm", "-f", "plain")
	if err := eventually(20*time.Second, func() error {
		text, err := os.ReadFile("/proc/net/sctp/eps")
		if err != nil || regexp.MustCompile(`\b183(00|1[12])\b`).Match(text) {
			return fmt.Errorf("sockets that are left, %v:\n%s", err, text)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
