//go:build root

package e2e

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestLogOptions: what a driver does not know is refused when the container is made.
func TestLogOptions(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		for _, tt := range []struct{ name, driver, opt, want string }{
			{"unknown driver", "nope", "", "logger: no log driver named 'nope' is registered"},
			{"driver elsewhere", "gelf", "", "the log driver gelf is not supported"},
			{"unknown option", "json-file", "nope=1", "unknown log opt 'nope' for json-file log driver"},
			{"unknown option of local", "local", "nope=1", "unknown log opt 'nope' for log driver local"},
			{"unknown option of syslog", "syslog", "nope=1", "unknown log opt 'nope' for syslog log driver"},
			{"size", "json-file", "max-size=big", "max-size"},
			{"no size", "json-file", "max-size=0", "max-size must be a positive number"},
			{"files", "json-file", "max-file=0", "max-file cannot be less than 1"},
			{"mode", "json-file", "mode=sometimes", "logger: logging mode not supported: sometimes"},
			{"buffer", "json-file", "max-buffer-size=1m", "logger: max-buffer-size option is only supported with 'mode=non-blocking'"},
			{"pattern", "json-file", "labels-regex=(", "missing closing )"},
			{"tag", "json-file", "tag={{.Nope}}", "Nope"},
			{"scheme", "syslog", "syslog-address=http://x", "unsupported scheme: 'http'"},
			{"TLS switch", "syslog", "syslog-address=tcp+tls://x,syslog-tls-skip-verify=perhaps", "invalid value for option syslog-tls-skip-verify: perhaps"},
			{"TLS files", "syslog", "syslog-address=tcp+tls://x,syslog-tls-ca-cert=/nope", `could not read CA certificate "/nope"`},
			{"TLS key", "syslog", "syslog-address=tcp+tls://x,syslog-tls-cert=/nope", "could not load X509 key pair"},
			{"facility", "syslog", "syslog-facility=nope", "invalid syslog facility"},
			{"format", "syslog", "syslog-format=nope", "invalid syslog format"},
			{"no socket", "syslog", "syslog-address=unix:///nope", "no such file or directory"},
			{"copy", "syslog", "cache-disabled=perhaps", "invalid value for option cache-disabled: perhaps"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				args := []string{"create", "--log-driver", tt.driver}
				for opt := range strings.SplitSeq(tt.opt, ",") {
					if opt != "" {
						args = append(args, "--log-opt", opt)
					}
				}
				if r := c.try(t, append(args, "busybox")...); r.code == 0 || !strings.Contains(r.err, tt.want) {
					t.Errorf("%+v, want %q", r, tt.want)
				}
			})
		}
	})
}

// TestLogDetails: labels, variables and a tag, and the daemon's own defaults.
func TestLogDetails(t *testing.T) {
	d := own(t, "--log-opt", "labels=tier", "--log-opt", "max-size=1m")
	for _, c := range clients(t, d) {
		name := "details-" + c.name
		c.must(t, "run", "--name", name, "--label", "tier=front", "--label", "other=x", "-e", "COLOUR=red", "-e", "APP_ONE=1", "-e", "APP_TWO=2",
			"--log-opt", "env=COLOUR", "--log-opt", "env-regex=^APP_", "--log-opt", "tag={{.Name}}/{{.ID | upper | len}}", "busybox", "echo", "hello")
		c.remove(t, name)
		want := "APP_ONE=1,APP_TWO=2,COLOUR=red,tag=" + name + "%2F12,tier=front hello"
		if got := c.must(t, "logs", "--details", name); got != want {
			t.Errorf("%q, want %q", got, want)
		}
		if got := c.must(t, "inspect", "-f", `{{index .HostConfig.LogConfig.Config "max-size"}}`, name); got != "1m" {
			t.Errorf("the daemon's own option: %q", got)
		}
	}
}

// collector is a server that logs are sent to.
type collector struct {
	mu    sync.Mutex
	lines []string
}

func (s *collector) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

// await gives what was received once it is n messages.
func (s *collector) await(t *testing.T, n int) []string {
	t.Helper()
	var got []string
	if err := eventually(20*time.Second, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		got = append([]string(nil), s.lines...)
		if len(got) < n {
			return fmt.Errorf("%d messages of %d", len(got), n)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	return got
}

func collectPackets(t *testing.T, conn net.PacketConn) *collector {
	t.Cleanup(func() { conn.Close() })
	s := &collector{}
	go func() {
		buf := make([]byte, 1<<17)
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			s.add(string(buf[:n]))
		}
	}()
	return s
}

func collectStreams(t *testing.T, l net.Listener) *collector {
	t.Cleanup(func() { l.Close() })
	s := &collector{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for r := bufio.NewReader(conn); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					s.add(line)
				}
			}()
		}
	}()
	return s
}

func listenPacket(t *testing.T, network, addr string) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func listenStream(t *testing.T, network, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestSyslog: every way to a server, what it reads, and what `logs` still knows.
func TestSyslog(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, address string
		open          func() *collector
		opts          []string
		want          string // a message, with TAG for the short id
	}{
		{"udp", "udp://127.0.0.1:5514", func() *collector { return collectPackets(t, listenPacket(t, "udp", "127.0.0.1:5514")) }, nil, "TAG["},
		{"tcp", "tcp://localhost:5515", func() *collector { return collectStreams(t, listenStream(t, "tcp", "127.0.0.1:5515")) },
			[]string{"syslog-format=rfc5424micro", "syslog-facility=local3"}, " TAG "},
		{"unix", "unix://" + dir + "/stream", func() *collector { return collectStreams(t, listenStream(t, "unix", dir+"/stream")) },
			[]string{"syslog-format=rfc3164", "tag=mine"}, " mine["},
		{"unixgram", "unixgram://" + dir + "/gram", func() *collector { return collectPackets(t, listenPacket(t, "unixgram", dir+"/gram")) }, nil, "TAG["},
		{"tls", "tcp+tls://localhost:5517", func() *collector {
			return collectStreams(t, tls.NewListener(listenStream(t, "tcp", "127.0.0.1:5517"), secured(t, dir)))
		},
			[]string{"syslog-format=rfc5424", "syslog-tls-ca-cert=" + dir + "/cert.pem"}, " TAG "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := tt.open()
			forEach(t, func(t *testing.T, c client) {
				name := c.unique(t, "c")
				args := []string{"run", "-d", "--name", name, "--log-driver", "syslog", "--log-opt", "syslog-address=" + tt.address}
				for _, o := range tt.opts {
					args = append(args, "--log-opt", o)
				}
				before := len(server.await(t, 0)) // from the other client
				id := c.must(t, append(args, "busybox", "sh", "-c", "echo out; echo err >&2; echo; printf "+name)...)
				c.remove(t, name)
				c.must(t, "wait", name)
				want := strings.ReplaceAll(tt.want, "TAG", id[:12])
				seen := map[string]bool{}
				for _, line := range server.await(t, before+3) {
					if strings.Contains(line, want) {
						for _, text := range []string{"out\n", "err\n", name + "\n"} {
							seen[text] = seen[text] || strings.HasSuffix(line, text)
						}
					}
				}
				if len(seen) != 3 || !seen["out\n"] || !seen["err\n"] || !seen[name+"\n"] {
					t.Errorf("with %q in it: %v of %q", want, seen, server.lines)
				}
				if r := c.try(t, "logs", name); r.out != "out\n\n"+name || r.err != "err\n" {
					t.Errorf("the local copy: %+v", r)
				}
			})
		})
	}
}

// TestSyslogClientCertificate: a server that wants to know who sends. Whoever shows
// nothing, or a stranger's certificate, reaches nobody, and the container is not started.
func TestSyslogClientCertificate(t *testing.T) {
	dir := t.TempDir()
	ca, strange := newAuthority(t, dir), newAuthority(t, t.TempDir())
	ca.issue("server", &x509.Certificate{DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	ca.issue("sender", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	strange.issue("stranger", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			var mu sync.Mutex
			var senders []string
			config := &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MaxVersion: version,
				VerifyConnection: func(s tls.ConnectionState) error {
					mu.Lock()
					defer mu.Unlock()
					senders = append(senders, s.PeerCertificates[0].Subject.CommonName)
					return nil
				}}
			l := listenStream(t, "tcp", "127.0.0.1:0")
			server := collectStreams(t, tls.NewListener(l, config))
			_, port, err := net.SplitHostPort(l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			args := func(more ...string) []string {
				args := []string{"--log-driver", "syslog", "--log-opt", "syslog-address=tcp+tls://localhost:" + port, "--log-opt", "syslog-tls-ca-cert=" + dir + "/ca.pem"}
				for _, o := range more {
					args = append(args, "--log-opt", o)
				}
				return args
			}
			ours := []string{"syslog-tls-cert=" + dir + "/sender.pem", "syslog-tls-key=" + dir + "/sender-key.pem"}
			forEach(t, func(t *testing.T, c client) {
				name := c.unique(t, "c")
				c.must(t, append(append([]string{"run", "--name", name}, args(ours...)...), "busybox", "echo", "from "+name)...)
				c.remove(t, name)
				server.await(t, 1)
				for what, opts := range map[string][]string{
					"nothing": nil, "stranger": {"syslog-tls-cert=" + strange.dir + "/stranger.pem", "syslog-tls-key=" + strange.dir + "/stranger-key.pem"},
				} {
					r := c.try(t, append(append([]string{"run", "--rm", "--name", name + what}, args(opts...)...), "busybox", "echo", "from "+what)...)
					if r.code != 125 || !strings.Contains(r.err, "failed to initialize logging driver") {
						t.Errorf("%s: %+v", what, r)
					}
				}
			})
			all := strings.Join(server.await(t, 2), "")
			if !strings.Contains(all, "from ") || strings.Contains(all, "from nothing") || strings.Contains(all, "from stranger") {
				t.Errorf("%q", all)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(senders) < 2 || strings.ReplaceAll(strings.Join(senders, ""), "sender", "") != "" {
				t.Errorf("senders %v", senders)
			}
		})
	}
}

// secured makes a certificate for localhost and writes it to dir/cert.pem.
func secured(t *testing.T, dir string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	model := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, model, model, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// TestSyslogWithoutServer: a container is not started without its server, and one
// that runs does not wait for a server that has gone.
func TestSyslogWithoutServer(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		r := c.try(t, "run", "--rm", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:5516", "busybox", "true")
		if want := "failed to initialize logging driver: dial tcp 127.0.0.1:5516: connect: connection refused"; r.code != 125 && r.code != 128 || !strings.Contains(r.err, want) {
			t.Errorf("%+v, want %q", r, want)
		}
		l := listenStream(t, "tcp", "127.0.0.1:5516")
		name := c.unique(t, "c")
		c.must(t, "run", "-d", "--name", name, "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:5516", "busybox",
			"sh", "-c", "while ! [ -e /go ]; do usleep 20000; done; seq 1 100000")
		c.remove(t, name)
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.Close()
		_, _, unwritten := loggerMetrics(t, world.daemon)
		c.must(t, "exec", name, "touch", "/go")
		if got := c.must(t, "wait", name); got != "0" {
			t.Errorf("exit status %s", got)
		}
		if lines := strings.Count(c.try(t, "logs", name).out, "\n"); lines != 100000 {
			t.Errorf("%d lines in the local copy", lines)
		}
		if err := eventually(20*time.Second, func() error { // the end is recorded a moment after it is told
			if _, _, now := loggerMetrics(t, world.daemon); now <= unwritten {
				return fmt.Errorf("what the server did not take is not counted: %d before, %d now", unwritten, now)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		name += "-uncopied"
		l = listenStream(t, "tcp", "127.0.0.1:5516")
		defer l.Close()
		c.must(t, "run", "-d", "--name", name, "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://127.0.0.1:5516", "--log-opt", "cache-disabled=true", "busybox", "true")
		c.remove(t, name)
		if r := c.try(t, "logs", name); r.code == 0 || !strings.Contains(r.err, "configured logging driver does not support reading") {
			t.Errorf("%+v", r)
		}
	})
}

// loggerMetrics are Docker's counts about logs.
func loggerMetrics(t *testing.T, d *daemon) (partial, unread, unwritten int) {
	t.Helper()
	resp, err := d.http().Get("http://muelle/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	found := 0
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		for name, n := range map[string]*int{
			"logger_log_entries_size_greater_than_buffer_total": &partial, "logger_log_read_operations_failed_total": &unread, "logger_log_write_operations_failed_total": &unwritten,
		} {
			value, ok := strings.CutPrefix(s.Text(), name+" ")
			if !ok {
				continue
			}
			if *n, err = strconv.Atoi(value); err != nil {
				t.Fatal(err)
			}
			found++
		}
	}
	if found != 3 {
		t.Fatalf("%d of Docker's three counts", found)
	}
	return partial, unread, unwritten
}

// TestLogCounts: pieces of a line too long for an entry are counted while the container
// runs, once it has ended, and after the daemon was away.
func TestLogCounts(t *testing.T) {
	d := own(t)
	c := ours(d)
	c.must(t, "run", "-d", "--name", "long", "busybox", "sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo printed; exec sleep 1000")
	check := func(when string) {
		t.Helper()
		if partial, unread, unwritten := loggerMetrics(t, d); partial != 2 || unread != 0 || unwritten != 0 {
			t.Errorf("%s: %d pieces, %d reads, %d writes", when, partial, unread, unwritten)
		}
	}
	c.eventuallyLogs(t, "long", "printed")
	check("while it runs")
	d.kill(t)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	check("with another daemon")
	c.must(t, "kill", "long")
	c.must(t, "wait", "long")
	check("after its end")
}

// journal opens the socket of systemd-journald in this mount namespace.
func journal(t *testing.T) *collector {
	t.Helper()
	const dir = "/run/systemd/journal"
	if err := os.MkdirAll("/run/systemd", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", "/run/systemd", "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount("/run/systemd", syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return collectPackets(t, listenPacket(t, "unixgram", dir+"/socket"))
}

// TestJournald: the fields that Docker's driver writes, also while the daemon is dead.
func TestJournald(t *testing.T) {
	if r := ours(world.daemon).try(t, "run", "--rm", "--log-driver", "journald", "busybox", "true"); r.code == 0 || !strings.Contains(r.err, "journald is not enabled on this host") {
		t.Errorf("without a journal: %+v", r)
	}
	server := journal(t)
	d := own(t)
	c := ours(d)
	id := c.must(t, "run", "-d", "--name", "writer", "--label", "com.example.tier=front", "-e", "COLOUR=red", "--log-driver", "journald",
		"--log-opt", "labels=com.example.tier", "--log-opt", "env=COLOUR", "--log-opt", "tag={{.Name}}", "busybox",
		"sh", "-c", "echo out; while ! [ -e /go ]; do usleep 20000; done; echo err >&2")
	c.remove(t, "writer")
	pid, err := strconv.Atoi(c.must(t, "inspect", "-f", "{{.State.Pid}}", "writer"))
	if err != nil {
		t.Fatal(err)
	}
	server.await(t, 1)
	d.kill(t)
	if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), "root/go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	entries := server.await(t, 2) // nobody but the shim is there to write
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []map[string]string{{"MESSAGE": "out", "PRIORITY": "6"}, {"MESSAGE": "err", "PRIORITY": "3"}} {
		got := fieldsOf(t, entries[i])
		for k, v := range map[string]string{
			"CONTAINER_ID": id[:12], "CONTAINER_ID_FULL": id, "CONTAINER_NAME": "writer", "CONTAINER_TAG": "writer", "SYSLOG_IDENTIFIER": "writer",
			"IMAGE_NAME": "busybox", "COM_EXAMPLE_TIER": "front", "COLOUR": "red", "CONTAINER_LOG_ORDINAL": strconv.Itoa(i + 1),
		} {
			want[k] = v
		}
		if len(got["CONTAINER_LOG_EPOCH"]) != 64 || got["SYSLOG_TIMESTAMP"] == "" {
			t.Errorf("epoch and time: %v", got)
		}
		delete(got, "CONTAINER_LOG_EPOCH")
		delete(got, "SYSLOG_TIMESTAMP")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("entry %d: %s", i, diff)
		}
	}
	if r := c.try(t, "logs", "writer"); r.out != "out\n" || r.err != "err\n" {
		t.Errorf("the local copy: %+v", r)
	}
}

// fieldsOf reads an entry of the journal's native protocol.
func fieldsOf(t *testing.T, entry string) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for b := []byte(entry); len(b) > 0; {
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

// TestLogKeepsEveryLine of a container that prints as fast as it can, over rotated
// and compressed files, for who follows and for who reads afterwards.
func TestLogKeepsEveryLine(t *testing.T) {
	const count = 300000
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "create", "--name", name, "--log-opt", "max-size=4m", "--log-opt", "max-file=50", "busybox", "seq", "1", strconv.Itoa(count))
		c.remove(t, name)
		c.must(t, "start", name)
		check := func(what, out string) {
			n := 0
			for line := range strings.Lines(out) {
				if n++; line != strconv.Itoa(n)+"\n" {
					t.Fatalf("%s: line %d is %q", what, n, line)
				}
			}
			if n != count {
				t.Errorf("%s: %d lines", what, n)
			}
		}
		check("followed", c.try(t, "logs", "-f", name).out)
		if got := c.must(t, "wait", name); got != "0" {
			t.Errorf("exit status %s", got)
		}
		path := c.must(t, "inspect", "-f", "{{.LogPath}}", name)
		if err := eventually(20*time.Second, func() error { // compressed after the end
			if packed, err := filepath.Glob(path + ".*.gz"); err != nil || len(packed) < 4 {
				return fmt.Errorf("compressed files: %v %v", packed, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		check("read", c.try(t, "logs", name).out)
		if got := c.must(t, "logs", "--tail", "2", name); got != strconv.Itoa(count-1)+"\n"+strconv.Itoa(count) {
			t.Errorf("tail: %q", got)
		}
	})
}

// TestLogTimes: every way to name a time.
func TestLogTimes(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.must(t, "run", "--name", name, "busybox", "sh", "-c", "echo one; sleep 1.1; echo two")
		c.remove(t, name)
		stamps := strings.Split(c.must(t, "logs", "-t", name), "\n")
		if len(stamps) != 2 {
			t.Fatalf("%q", stamps)
		}
		text, _, _ := strings.Cut(stamps[1], " ")
		second, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []string{
			text, second.Local().Format("2006-01-02T15:04:05.999999999"), fmt.Sprintf("%d.%09d", second.Unix(), second.Nanosecond()),
			second.In(time.FixedZone("", 7200)).Format(time.RFC3339Nano),
		} {
			if got := c.must(t, "logs", "--since", at, name); got != "two" {
				t.Errorf("since %s: %q", at, got)
			}
			before := second.Add(-time.Millisecond)
			if at != text {
				continue
			}
			if got := c.must(t, "logs", "--until", before.Format(time.RFC3339Nano), name); got != "one" {
				t.Errorf("until %s: %q", before, got)
			}
		}
		for args, want := range map[string]string{"--since 1h": "one\ntwo", "--until 1h": "", "--since 2006-01-02": "one\ntwo", "--tail 1 --since 1h": "two", "--tail 0": "", "--until 2006-01-02T15:04": ""} {
			if got := c.must(t, append(append([]string{"logs"}, strings.Fields(args)...), name)...); got != want {
				t.Errorf("%s: %q, want %q", args, got, want)
			}
		}
		if r := c.try(t, "logs", "--since", "soon", name); r.code == 0 {
			t.Errorf("%+v", r)
		}
	})
}
