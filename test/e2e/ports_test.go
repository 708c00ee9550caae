//go:build root

package e2e

import (
	"net"
	"strings"
	"testing"
	"time"
)

// TestUpdatePorts: ports come and go while the container runs on, over the daemon's
// death, and at its next start; what failed changed nothing.
func TestUpdatePorts(t *testing.T) {
	d := own(t)
	all := clients(t, d)
	docker, muelle := all[0], all[1]
	name := muelle.unique(t, "c")
	muelle.must(t, append([]string{"run", "-d", "--name", name, "-p", "127.0.0.1:18301:80"}, httpd...)...)
	muelle.remove(t, name)
	pid := docker.must(t, "inspect", "-f", "{{.State.Pid}}", name)
	reaches := func(url string, want bool) {
		t.Helper()
		try := func() error { _, err := get(url); return err }
		err := try()
		if want {
			err = eventually(20*time.Second, try)
		}
		if (err == nil) != want {
			t.Errorf("%s: %v", url, err)
		}
	}
	reaches("http://127.0.0.1:18301", true)
	muelle.must(t, "update", "--publish-add", "18302:80", "--publish-rm", "18301:80", name)
	reaches("http://127.0.0.1:18301", false)
	reaches("http://127.0.0.1:18302", true)
	reaches("http://[::1]:18302", true)
	if got := docker.must(t, "port", name); got != "80/tcp -> 0.0.0.0:18302\n80/tcp -> [::]:18302" {
		t.Errorf("port: %q", got)
	}
	free, err := net.Listen("tcp", "127.0.0.1:18301")
	if err != nil {
		t.Errorf("the port that was taken back is not free: %v", err)
	} else {
		free.Close()
	}

	taken, err := net.Listen("tcp", "127.0.0.1:18303")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r := muelle.try(t, "update", "--publish-rm", "18302:80", "--publish-add", "127.0.0.1:18303:80", name)
	if r.code != 1 || !strings.Contains(r.err, "address already in use") {
		t.Errorf("update to a taken port: %+v", r)
	}
	reaches("http://127.0.0.1:18302", true)
	r = muelle.try(t, "update", "--publish-rm", "9:80", name)
	if r.code != 1 || !strings.Contains(r.err, "does not publish 9:80/tcp: it publishes 0.0.0.0:18302:80/tcp") {
		t.Errorf("update of a port that is not published: %+v", r)
	}

	d.kill(t)
	reaches("http://127.0.0.1:18302", true)
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	muelle.must(t, "update", "--publish-add", "127.0.0.1::80", name)
	if got := docker.must(t, "inspect", "-f", "{{.State.Pid}}", name); got != pid {
		t.Errorf("the container was restarted: pid %s, was %s", got, pid)
	}
	muelle.must(t, "restart", "-t", "0", name)
	reaches("http://127.0.0.1:18302", true)
	chosen := docker.must(t, "port", name, "80")
	if n := strings.Count(chosen, "\n") + 1; n != 3 {
		t.Errorf("after a restart: %q", chosen)
	}
	muelle.must(t, "update", "--publish-rm", "80", name)
	if got := docker.must(t, "port", name); got != "" {
		t.Errorf("after taking all back: %q", got)
	}
	reaches("http://127.0.0.1:18302", false)
}

// TestUpdatePortsCutsConnections: who is connected through a port that is taken back
// is so no longer.
func TestUpdatePortsCutsConnections(t *testing.T) {
	muelle := clients(t, world.daemon)[1]
	name := muelle.unique(t, "c")
	muelle.must(t, "run", "-d", "--name", name, "-p", "127.0.0.1:18304:7", "busybox", "sh", "-c", "while :; do nc -l -p 7 -e cat; done")
	muelle.remove(t, name)
	var c net.Conn
	err := eventually(20*time.Second, func() (err error) {
		if c, err = net.Dial("tcp", "127.0.0.1:18304"); err != nil {
			return err
		}
		if err = repeated(c, 2*time.Second); err != nil {
			c.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	muelle.must(t, "update", "--publish-rm", "7", name)
	if err := repeated(c, 2*time.Second); err == nil {
		t.Error("the connection goes on")
	}
}
