package remote_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"muelle/internal/logdriver"
	"muelle/internal/logdriver/remote"
)

var at = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

func open(t *testing.T, cfg logdriver.Remote) *remote.Writer {
	t.Helper()
	w, err := remote.New(cfg, 42, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Drop)
	return w
}

func write(t *testing.T, w *remote.Writer, s logdriver.Stream, text string) {
	t.Helper()
	if err := w.Write(s, []byte(text), at); err != nil {
		t.Fatal(err)
	}
}

// datagrams listens on a socket and gives what one read receives.
func datagrams(t *testing.T) (path string, receive func() []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return path, func() []byte {
		buf, oob := make([]byte, 1<<20), make([]byte, 1024)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
		if err != nil {
			t.Fatal(err)
		}
		if oobn == 0 {
			return buf[:n]
		}
		return sealed(t, oob[:oobn])
	}
}

// sealed reads an entry that came as a file, which must not change any more.
func sealed(t *testing.T, oob []byte) []byte {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	const all = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if seals, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GET_SEALS, 0); err != nil || seals != all {
		t.Errorf("seals %x, %v", seals, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fds[0], &st); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, st.Size)
	if _, err := unix.Pread(fds[0], data, 0); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSyslogFormats(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  logdriver.Remote
		want string
	}{
		{"unix", logdriver.Remote{}, "<27>Jan  2 03:04:05 tag[42]: text\n"},
		{"rfc3164", logdriver.Remote{Format: logdriver.FormatRFC3164}, "<27>Jan  2 03:04:05 host tag[42]: text\n"},
		{"rfc5424", logdriver.Remote{Format: logdriver.FormatRFC5424}, "<27>1 2026-01-02T03:04:05Z host tag 42 tag - text\n"},
		{"rfc5424micro", logdriver.Remote{Format: logdriver.FormatRFC5424Micro}, "<27>1 2026-01-02T03:04:05.678901Z host tag 42 tag - text\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, receive := datagrams(t)
			tt.cfg.Kind, tt.cfg.Network, tt.cfg.Path = "syslog", "unixgram", path
			tt.cfg.Hostname, tt.cfg.Tag, tt.cfg.Facility = "host", "tag", 24
			w := open(t, tt.cfg)
			write(t, w, logdriver.Stderr, "te")
			write(t, w, logdriver.Stderr, "xt\n\n") // the empty line is no message
			write(t, w, logdriver.Stdout, "last")
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if got := string(receive()); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if got := string(receive()); !strings.Contains(got, "<30>") || !strings.HasSuffix(got, "last\n") {
				t.Errorf("then %q", got)
			}
		})
	}
}

// entry decodes the journal's native protocol.
func entry(t *testing.T, b []byte) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, []byte{'\n'})
		if !ok {
			t.Fatalf("no newline in %q", b)
		}
		name, value, plain := bytes.Cut(line, []byte{'='})
		if !plain {
			n := binary.LittleEndian.Uint64(rest)
			value, rest = rest[8:8+n], rest[8+n+1:]
		}
		fields[string(name)] = string(value)
		b = rest
	}
	return fields
}

func TestJournal(t *testing.T) {
	path, receive := datagrams(t)
	fields := remote.AppendField(nil, "CONTAINER_NAME", nil, []byte("c"))
	fields = remote.AppendField(fields, "LABEL", nil, []byte("two\nlines"))
	w := open(t, logdriver.Remote{Kind: "journald", Network: "unixgram", Path: path, Fields: fields})
	write(t, w, logdriver.Stdout, "hello\n")
	write(t, w, logdriver.Stderr, strings.Repeat("x", logdriver.MaxLine)+"end\n")
	base := map[string]string{"CONTAINER_NAME": "c", "LABEL": "two\nlines", "SYSLOG_TIMESTAMP": "2026-01-02T03:04:05.678901Z"}
	for i, want := range []map[string]string{
		{"PRIORITY": "6", "MESSAGE": "hello"},
		{"PRIORITY": "3", "MESSAGE": strings.Repeat("x", logdriver.MaxLine), "CONTAINER_PARTIAL_MESSAGE": "true", "CONTAINER_PARTIAL_ID": "0000000000000001", "CONTAINER_PARTIAL_ORDINAL": "1", "CONTAINER_PARTIAL_LAST": "false"},
		{"PRIORITY": "3", "MESSAGE": "end", "CONTAINER_PARTIAL_ID": "0000000000000001", "CONTAINER_PARTIAL_ORDINAL": "2", "CONTAINER_PARTIAL_LAST": "true"},
	} {
		for k, v := range base {
			want[k] = v
		}
		want["CONTAINER_LOG_ORDINAL"] = strconv.Itoa(i + 1)
		got := entry(t, receive())
		if id := got["CONTAINER_PARTIAL_ID"]; id != "" {
			if len(id) != 64 {
				t.Errorf("the id of a message in parts is %q", id)
			} else {
				got["CONTAINER_PARTIAL_ID"] = id[48:] // the rest is random
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("entry %d: %s", i, d)
		}
	}
}

// TestJournalLargeEntry: what does not fit into a datagram comes as a sealed file.
func TestJournalLargeEntry(t *testing.T) {
	path, receive := datagrams(t)
	large := strings.Repeat("l", 4<<20)
	w := open(t, logdriver.Remote{Kind: "journald", Network: "unixgram", Path: path, Fields: remote.AppendField(nil, "LARGE", nil, []byte(large))})
	write(t, w, logdriver.Stdout, "hello\n")
	if got := entry(t, receive()); got["MESSAGE"] != "hello" || got["LARGE"] != large {
		t.Errorf("message %q, %d bytes of LARGE", got["MESSAGE"], len(got["LARGE"]))
	}
}

func tcp(t *testing.T) (*net.TCPListener, logdriver.Remote) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	a := l.Addr().(*net.TCPAddr)
	return l.(*net.TCPListener), logdriver.Remote{Kind: "syslog", Network: "tcp", Addr: a.IP.To4(), Port: uint16(a.Port), Hostname: "host", Tag: "tag"}
}

func line(i int) string { return fmt.Sprintf("message %06d %s\n", i, strings.Repeat(".", 80)) }

// TestSlowServerHoldsUp: once enough is on the way the container is to wait, and
// nothing is lost.
func TestSlowServerHoldsUp(t *testing.T) {
	l, cfg := tcp(t)
	w := open(t, cfg)
	n := 0
	for ; !w.Full(); n++ {
		write(t, w, logdriver.Stdout, line(n))
		if n > 1<<20 {
			t.Fatal("a server that does not read never holds anything up")
		}
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := make(chan string)
	go func() {
		b, _ := io.ReadAll(conn)
		got <- string(b)
	}()
	drain(t, w)
	if w.Full() {
		t.Error("full with nothing pending")
	}
	w.Drop()
	i := 0
	for text := range strings.Lines(<-got) {
		if !strings.HasSuffix(text, "]: "+line(i)) {
			t.Fatalf("message %d is %q", i, text)
		}
		i++
	}
	if i != n || w.Lost() != 0 {
		t.Errorf("%d messages of %d, %d lost", i, n, w.Lost())
	}
}

// drain flushes as the shim's loop does.
func drain(t *testing.T, w *remote.Writer) {
	t.Helper()
	for w.Pending() > 0 {
		if w.FD() >= 0 {
			p := []unix.PollFd{{Fd: int32(w.FD()), Events: unix.POLLOUT}}
			if _, err := unix.Poll(p, 10000); err != nil && err != unix.EINTR {
				t.Fatal(err)
			}
		} else {
			<-time.After(time.Until(w.Retry()))
		}
		w.Flush()
	}
}

func TestNonBlockingDropsWhatDoesNotFit(t *testing.T) {
	_, cfg := tcp(t)
	cfg.NonBlocking, cfg.Buffer = true, 4096
	w := open(t, cfg)
	for i := range 100000 {
		write(t, w, logdriver.Stdout, line(i))
	}
	if w.Full() || w.Pending() > 4096+200 {
		t.Errorf("full %v, %d bytes pending", w.Full(), w.Pending())
	}
	if w.Lost() == 0 {
		t.Error("nothing was lost: the test is none")
	}
}

// TestServerComesBack: messages wait for a server that was away, whole.
func TestServerComesBack(t *testing.T) {
	l, cfg := tcp(t)
	w := open(t, cfg)
	conn, err := l.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	conn.SetLinger(0)
	conn.Close()
	n := 0
	for ; w.FD() >= 0 || n < 10; n++ { // until the loss of the connection is seen
		write(t, w, logdriver.Stdout, line(n))
	}
	if w.Full() {
		t.Error("a server that is away holds the container up")
	}
	l2, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l2.Close()
	drain(t, w)
	back, err := l2.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	want := "]: " + line(n-1)
	var got []byte
	for buf := make([]byte, 4096); !bytes.HasSuffix(got, []byte(want)); {
		m, err := back.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		got = append(got, buf[:m]...)
	}
	if !bytes.HasPrefix(got, []byte("<6>")) {
		t.Errorf("the first message is not whole: %q", got[:60])
	}
}

func TestNobodyThere(t *testing.T) {
	l, cfg := tcp(t)
	l.Close()
	if w, err := remote.New(cfg, 1, nil); err == nil {
		w.Drop()
		t.Error("connected to nobody")
	}
	cfg = logdriver.Remote{Kind: "journald", Network: "unixgram", Path: filepath.Join(t.TempDir(), "none")}
	if w, err := remote.New(cfg, 1, nil); err == nil {
		w.Drop()
		t.Error("connected to nobody")
	}
}

// helper stands for the program that makes a connection; its end of the socket comes
// by the channel.
func helper() (func([]string) (int, error), chan int) {
	theirs := make(chan int, 10)
	return func([]string) (int, error) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		if _, err := unix.Write(pair[1], []byte{logdriver.HelperReady}); err != nil {
			return -1, err
		}
		theirs <- pair[1]
		return pair[0], unix.SetNonblock(pair[0], true)
	}, theirs
}

// TestHelper: messages wait for the helper's word, carry their length where that is
// asked for, and go to the next helper when one ends.
func TestHelper(t *testing.T) {
	start, theirs := helper()
	cfg := logdriver.Remote{Kind: "syslog", Network: "tcp+tls", Helper: []string{"h"}, Framed: true, Format: logdriver.FormatRFC5424, Hostname: "host", Tag: "tag"}
	w, err := remote.New(cfg, 42, start)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Drop)
	receive := func(fd int) string {
		b := make([]byte, 1<<16)
		n, err := unix.Read(fd, b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	first := <-theirs
	write(t, w, logdriver.Stdout, "one\ntwo\n")
	message := "<6>1 2026-01-02T03:04:05Z host tag 42 tag - "
	length := strconv.Itoa(len(message) + 4)
	if got, want := receive(first), length+" "+message+"one\n"+length+" "+message+"two\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	unix.Close(first)
	write(t, w, logdriver.Stdout, "new\n")
	if w.FD() >= 0 || w.Retry().IsZero() {
		t.Error("another helper is started at once")
	}
	drain(t, w)
	second := <-theirs
	defer unix.Close(second)
	if got, want := receive(second), length+" "+message+"new\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestHelperRefuses(t *testing.T) {
	for _, text := range []string{"tls: certificate is for elsewhere", ""} {
		_, err := remote.New(logdriver.Remote{Kind: "syslog", Network: "tcp+tls", Helper: []string{"h"}}, 42, func([]string) (int, error) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return -1, err
			}
			unix.Write(pair[1], []byte(text))
			unix.Close(pair[1])
			return pair[0], unix.SetNonblock(pair[0], true)
		})
		if want := map[bool]string{true: "h ended without a word", false: text}[text == ""]; err == nil || err.Error() != want {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
