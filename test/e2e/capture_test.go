//go:build root

package e2e

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"muelle/internal/linux/capture/pcap"
)

// TestCapture: what passes a container's interfaces, as text with names, and as a file.
func TestCapture(t *testing.T) {
	c := ours(world.daemon)
	link, web, peer := c.unique(t, "net"), c.unique(t, "web"), c.unique(t, "peer")
	c.must(t, "network", "create", link)
	t.Cleanup(func() { c.try(t, "network", "rm", link) })
	c.must(t, append([]string{"run", "-d", "--name", web, "--network", link}, httpd...)...)
	c.remove(t, web)
	c.must(t, "run", "-d", "--name", peer, "--network", link, "busybox", "sh", "-c", "while :; do wget -q -O- http://"+web+"/ >/dev/null; ping -c 1 -W 1 "+web+" >/dev/null; usleep 50000; done")
	c.remove(t, peer)

	// A question, its answer, and what else there is of one connection to the web server.
	r := c.try(t, "net", "capture", web, "-c", "6", "tcp", "port", "80", "and", "host", peer)
	if r.code != 0 || strings.Count(r.out, "\n") != 6 || !strings.Contains(r.err, "6 packets captured, 0 dropped") {
		t.Fatalf("%+v", r)
	}
	for line := range strings.Lines(r.out) {
		if !strings.Contains(line, web+".80") || !strings.Contains(line, peer+".") || !strings.Contains(line, "Flags [") {
			t.Errorf("line %q", line)
		}
	}
	if r := c.try(t, "net", "capture", "-n", "-c", "1", "-i", link, web, "icmp"); r.code != 0 || strings.Contains(r.out, web) || !strings.Contains(r.out, "ICMP echo") {
		t.Errorf("numeric: %+v", r)
	}

	file := filepath.Join(t.TempDir(), "x.pcap")
	c.must(t, "net", "capture", web, "-i", "eth0", "-w", file, "-c", "4", "--snaplen", "60", "tcp dst port 80")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	packets, err := pcap.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		p, err := packets.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
		if len(p.Data) > 60 || p.Length < len(p.Data) || time.Since(p.At).Abs() > time.Minute {
			t.Errorf("packet of %d, %d bytes, at %v", p.Length, len(p.Data), p.At)
		}
		if p.Data[12] != 8 || p.Data[23] != 6 || p.Data[36] != 0 || p.Data[37] != 80 {
			t.Errorf("no TCP to port 80: %x", p.Data)
		}
	}
	if n != 4 {
		t.Errorf("%d packets", n)
	}
	if r := c.try(t, "net", "capture", web, "-c", "2", "-w", "-", "arp or tcp"); r.code != 0 || !strings.HasPrefix(r.out, "\x4d\x3c\xb2\xa1") {
		t.Errorf("to stdout: %+v", r)
	}
}

func TestCaptureRefused(t *testing.T) {
	c := ours(world.daemon)
	name, host := c.unique(t, "app"), c.unique(t, "host")
	c.must(t, "run", "-d", "--name", name, "busybox", "sleep", "1000")
	c.remove(t, name)
	c.must(t, "run", "-d", "--name", host, "--network", "host", "busybox", "sleep", "1000")
	c.remove(t, host)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{name, "tcp[13] == 2"}, "tcp[13]"},
		{[]string{name, strings.Repeat("port 80 or ", 400) + "arp"}, "filter: it is longer than 4096 bytes"},
		{[]string{name, strings.Repeat("port 80 or ", 10000) + "arp"}, "filter: it is longer than 4096 bytes"},
		{[]string{name, strings.Repeat("( ", 100) + "arp"}, "filter: it is nested more than 64 deep"},
		{[]string{name, "-i", "nowhere"}, "nowhere"},
		{[]string{host}, "--host-interfaces"},
		{[]string{"nobody"}, "No such container"},
	} {
		if r := c.try(t, append([]string{"net", "capture"}, tc.args...)...); r.code == 0 || !strings.Contains(r.err, tc.want) {
			t.Errorf("%v: %+v", tc.args, r)
		}
	}
	c.must(t, "stop", "-t", "0", name)
	if r := c.try(t, "net", "capture", name); r.code == 0 || !strings.Contains(r.err, "is not running") {
		t.Errorf("stopped: %+v", r)
	}
}

// TestCaptureByTLS: the packets come through as they do by the socket, and end with the container.
func TestCaptureByTLS(t *testing.T) {
	dir, addr := t.TempDir(), freePort(t)
	ca := newAuthority(t, dir)
	ca.issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	ca.issue("cert", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	file := func(name string) string { return filepath.Join(dir, name+".pem") }
	d := own(t, "-H", "tcp://"+addr, "--tlsverify", "--tlscacert", file("ca"), "--tlscert", file("server"), "--tlskey", file("server-key"))
	c := ours(d)
	name := c.unique(t, "app")
	c.must(t, "run", "-d", "--name", name, "busybox", "sh", "-c", "while :; do ping -q -c 1 127.0.0.1 >/dev/null; usleep 20000; done")
	c.remove(t, name)
	secure := []string{"-H", "tcp://" + addr, "--tlsverify", "--tlscacert", file("ca"), "--tlscert", file("cert"), "--tlskey", file("cert-key"), "net", "capture", name, "-i", "lo"}
	if r := c.try(t, append(secure, "-c", "4", "icmp")...); r.code != 0 || strings.Count(r.out, "ICMP echo re") != 4 || !strings.Contains(r.err, "4 packets captured, 0 dropped") {
		t.Errorf("%+v", r)
	}
	done := make(chan result, 1)
	go func() { done <- c.try(t, append(secure, "-w", "-")...) }()
	// A line for each packet socket of the namespace, below a heading.
	err := eventually(30*time.Second, func() error {
		if out := c.must(t, "exec", name, "cat", "/proc/net/packet"); strings.Count(out, "\n") < 1 {
			return fmt.Errorf("nobody captures:\n%s", out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.must(t, "stop", "-t", "0", name)
	if r := <-done; r.code != 0 || !strings.HasPrefix(r.out, "\x4d\x3c\xb2\xa1") || !strings.Contains(r.err, "packets captured") {
		t.Errorf("to its end: %d, %s", r.code, r.err)
	}
}

// TestCaptureEnds: with the container, also where the client does not read; what there was
// no room for is counted.
func TestCaptureEnds(t *testing.T) {
	c := ours(world.daemon)
	name := c.unique(t, "app")
	// Frames of 60,000 bytes on the loopback, more than the buffers of kernel and client.
	c.must(t, "run", "-d", "--name", name, "busybox", "sh", "-c", "while :; do ping -q -c 20 -A -s 60000 127.0.0.1 >/dev/null; done")
	c.remove(t, name)
	resp, err := world.daemon.http().Post("http://muelle/muelle/v1/containers/"+name+"/capture?interface=lo", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	done := make(chan result, 1)
	go func() { done <- c.try(t, "net", "capture", name, "-i", "lo", "-w", os.DevNull) }()
	// More than all buffers between the kernel and this reader, which does not read.
	err = eventually(20*time.Second, func() error {
		text := c.must(t, "exec", name, "cat", "/sys/class/net/lo/statistics/rx_bytes")
		if n, err := strconv.Atoi(text); err != nil || n < 100<<20 {
			return fmt.Errorf("%s bytes on the loopback, %v", text, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.must(t, "stop", "-t", "0", name)
	if r := <-done; r.code != 0 || !strings.Contains(r.err, "packets captured") {
		t.Errorf("%+v", r)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil && (resp.Trailer.Get("Muelle-Dropped") == "" || resp.Trailer.Get("Muelle-Dropped") == "0") {
		t.Errorf("trailers %v", resp.Trailer)
	}
}
