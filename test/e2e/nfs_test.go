//go:build root && vm

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// serveNFS makes this kernel an NFS server of one folder for 127.0.0.1, in the test's
// network namespace. What nfsd asks mountd for is put into its caches beforehand: see
// Documentation/filesystems/nfs/rpc-cache.rst.
func serveNFS(t *testing.T, dir string) {
	t.Helper()
	// Not /proc/net: that is where the process's first thread is, which may be one that
	// was left in another network namespace.
	const server, caches = "/proc/fs/nfsd/", "/proc/thread-self/net/rpc/"
	if err := syscall.Mount("nfsd", "/proc/fs/nfsd", "nfsd", 0, ""); err != nil {
		t.Fatal("mount nfsd:", err)
	}
	write := func(name, text string) error {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		return errors.Join(err, f.Close())
	}
	t.Cleanup(func() {
		for _, name := range []string{"nfsd.fh", "nfsd.export", "auth.unix.ip"} {
			if err := write(caches+name+"/flush", "2147483647\n"); err != nil {
				t.Error(err)
			}
		}
		if err := syscall.Unmount("/proc/fs/nfsd", 0); err != nil {
			t.Error(err)
		}
	})
	// With version 2, which Linux 5.10 serves unasked, it would look for a port mapper.
	versions := "-3 +4.2\n"
	if known, err := os.ReadFile(server + "versions"); err != nil {
		t.Fatal(err)
	} else if strings.Contains(string(known), "+2") {
		versions = "-2 " + versions
	}
	const never, domain = 2147483647, "muelle-test"
	// The root of NFS version 4 is the export whose fsid is 0.
	const insecure, async, noSubtreeCheck, hasFsid = 0x2, 0x10, 0x400, 0x2000
	for _, w := range [][2]string{
		{server + "versions", versions},
		{server + "nfsv4gracetime", "10\n"},
		{server + "portlist", "tcp 2049\n"},
		{server + "threads", "2\n"},
		{caches + "auth.unix.ip/channel", fmt.Sprintf("nfsd 127.0.0.1 %d %s\n", never, domain)},
		{caches + "nfsd.export/channel", fmt.Sprintf("%s %s %d %d 65534 65534 0\n", domain, dir, never, insecure|async|noSubtreeCheck|hasFsid)},
		{caches + "nfsd.fh/channel", fmt.Sprintf("%s 1 \\x00000000 %d %s\n", domain, never, dir)},
	} {
		if err := write(w[0], w[1]); err != nil {
			t.Fatalf("%s: %v", strings.TrimSpace(w[1]), err)
		}
		if w[0] == server+"threads" {
			t.Cleanup(func() {
				if err := write(server+"threads", "0\n"); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestNFSVolume mounts a volume from an NFS server, the kernel's own.
//
//muelle:ring
func TestNFSVolume(t *testing.T) {
	export := filepath.Join(world.dir, "export")
	if err := os.MkdirAll(filepath.Join(export, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(export); err != nil {
			t.Error(err)
		}
	})
	touch(t, export, "theirs")
	serveNFS(t, export)
	c := ours(own(t, "--userns-pool", "1000000:1000000"))
	volume := func(name, o, device string) {
		c.must(t, "volume", "create", "-d", "local", "-o", "type=nfs", "-o", "o="+o, "-o", "device="+device, name)
		t.Cleanup(func() { c.must(t, "volume", "rm", name) })
	}
	// For its first ten seconds the server opens no file, as its clients from before may
	// claim theirs: what fails comes first.
	volume("nfs", "addr=127.0.0.1,nfsvers=4.2,soft,rw", ":/")
	volume("nfs-sub", "addr=localhost,nfsvers=4,soft,ro", ":/sub")
	volume("nfs-none", "addr=127.0.0.1,nfsvers=4.2,soft", ":/none")
	if r := c.try(t, "run", "--rm", "-v", "nfs-none:/data", "busybox", "true"); r.code == 0 || !strings.Contains(r.err, "nfs-none") || !strings.Contains(r.err, "no such file") {
		t.Errorf("what is not exported: %+v", r)
	}
	if r := c.try(t, "run", "--rm", "--userns", "auto", "-v", "nfs:/data", "busybox", "true"); r.code == 0 || !strings.Contains(r.err, "idmapped") {
		t.Errorf("in a user namespace: %+v", r)
	}
	got := c.must(t, "run", "--rm", "-v", "nfs:/data", "-v", "nfs-sub:/sub", "busybox", "sh", "-c",
		"cd /data; ls; echo ours >sub/ours; chown 7:8 sub/ours; stat -c %u:%g sub/ours; cat /sub/ours; touch /sub/x 2>&1; awk '$2==\"/data\"{print $3}' /proc/mounts")
	if want := "sub\ntheirs\n7:8\nours\ntouch: /sub/x: Read-only file system\nnfs4"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if data, err := os.ReadFile(filepath.Join(export, "sub/ours")); err != nil || string(data) != "ours\n" {
		t.Errorf("on the server: %q, %v", data, err)
	}
	// One mount for all who use it, gone with the last of them.
	for _, name := range []string{"nfs1", "nfs2"} {
		c.must(t, "run", "-d", "--name", name, "-v", "nfs:/data", "busybox", "sleep", "1000")
		c.remove(t, name)
	}
	c.must(t, "exec", "nfs1", "touch", "/data/seen")
	c.must(t, "exec", "nfs2", "rm", "/data/seen")
	c.must(t, "rm", "-f", "nfs1", "nfs2")
}

// TestSilentServer: a server that takes connections and never answers holds up nobody but
// who asked for it, and not for ever.
//
//muelle:ring
func TestSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan struct{}, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			select {
			case asked <- struct{}{}:
			default:
			}
		}
	}()
	c := ours(own(t))
	c.must(t, "run", "--rm", "busybox", "true") // the image is there
	_, port, _ := net.SplitHostPort(l.Addr().String())
	c.must(t, "volume", "create", "-o", "type=nfs", "-o", "o=addr=127.0.0.1,nfsvers=4.2,hard,retry=0,port="+port, "-o", "device=:/", "silent")
	waiting := make(chan result, 1)
	go func() { waiting <- c.try(t, "run", "--rm", "-v", "silent:/data", "busybox", "true") }()
	select {
	case <-asked:
	case r := <-waiting:
		t.Fatalf("nobody was asked: %+v", r)
	}
	// Meanwhile everybody else is served.
	c.must(t, "volume", "ls")
	select {
	case r := <-waiting:
		t.Fatalf("the mount has ended already: %+v", r)
	default:
	}
	c.must(t, "run", "--rm", "busybox", "true")
	c.must(t, "system", "df")
	c.must(t, "ps", "-a")
	if r := <-waiting; r.code != 125 && r.code != 128 || !strings.Contains(r.err, "server 127.0.0.1 does not answer") && !strings.Contains(r.err, "does not answer: is it up") {
		t.Errorf("%+v", r)
	}
	c.must(t, "volume", "rm", "silent")
}
