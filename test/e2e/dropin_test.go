//go:build root

package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// authority signs certificates for one test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// issue writes NAME.pem and NAME-key.pem.
func (a *authority) issue(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return c, key
}

// freePort is one that nobody listened on a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// A daemon on TCP with mutual TLS, metrics and defaults for containers.
func TestDaemonOptions(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	ca.issue("server", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	ca.issue("cert", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err := os.Rename(filepath.Join(dir, "cert-key.pem"), filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name+".pem") }
	addr, metrics := freePort(t), freePort(t)
	d := own(t, "-H", "tcp://"+addr, "--tlsverify", "--tlscacert", file("ca"), "--tlscert", file("server"), "--tlskey", file("server-key"), "--metrics-addr", metrics,
		"--default-ulimit", "nofile=333:444", "--dns", "192.0.2.53", "--dns-search", "example.org", "--default-stop-timeout", "0", "--default-ipc-mode", "shareable",
		"--containerd=/run/containerd/containerd.sock", "--userland-proxy=false")
	for _, c := range clients(t, d) {
		t.Run("TLS by "+c.name, func(t *testing.T) {
			secure := []string{"-H", "tcp://" + addr, "--tlsverify", "--tlscacert", file("ca"), "--tlscert", file("cert"), "--tlskey", file("key")}
			if r := c.pipe(t, []byte("through TLS"), append(secure, "run", "--rm", "-i", "busybox", "cat")...); r.out != "through TLS" || r.code != 0 {
				t.Errorf("%+v", r)
			}
			// The server is asked for its certificate, and asks for ours.
			if r := c.try(t, "-H", "tcp://"+addr, "--tls", "--tlscert", "/nonexistent/c.pem", "--tlskey", "/nonexistent/k.pem", "--tlscacert", "/nonexistent/a.pem", "ps"); r.code == 0 {
				t.Errorf("without a certificate: %+v", r)
			}
			if r := c.try(t, "-H", "tcp://"+addr, "ps"); r.code == 0 {
				t.Errorf("without TLS: %+v", r)
			}
		})
	}
	t.Run("variables under the name docker", func(t *testing.T) {
		link := filepath.Join(dir, "docker")
		if err := os.Symlink(filepath.Join(world.bin, "muelle"), link); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), link, "version", "-f", "{{.Server.Os}}")
		cmd.Env = []string{"HOME=" + dir, "DOCKER_HOST=tcp://" + addr, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + dir}
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != "linux\n" {
			t.Errorf("%s, %v", out, err)
		}
	})
	c := ours(d)
	out := c.must(t, "run", "--name", "defaults", "busybox", "sh", "-c", "ulimit -Sn; ulimit -Hn; cat /etc/resolv.conf")
	for _, want := range []string{"333\n444\n", "search example.org"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %s", want, out)
		}
	}
	if got := c.must(t, "inspect", "-f", "{{.HostConfig.IpcMode}}", "defaults"); got != "shareable" {
		t.Errorf("ipc mode %s", got)
	}
	res, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	if want := `name="defaults"`; err != nil || !strings.Contains(string(body), want) || !strings.Contains(string(body), "engine_daemon_engine_info{") {
		t.Errorf("metrics lack %s: %.300s", want, body)
	}
	if res, err := http.Get("http://" + metrics + "/containers/json"); err != nil || res.StatusCode != http.StatusNotFound {
		t.Errorf("the port of the metrics answers other requests: %v", err)
	}
	log, err := os.ReadFile(d.log())
	if err != nil || !strings.Contains(string(log), "containerd: /run/containerd/containerd.sock has no effect") {
		t.Errorf("no notice in the log: %v", err)
	}
}

// The command line of Debian's and Docker's unit, under a link named dockerd: sockets
// from systemd, its notifications, and a reload.
func TestDockerdUnit(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "dockerd")
	if err := os.Symlink(filepath.Join(world.bin, "muelled"), link); err != nil {
		t.Fatal(err)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()
	d := newDaemon("unit")
	if err := os.MkdirAll(filepath.Dir(d.socket()), 0o711); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: d.socket(), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	given, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	config := filepath.Join(dir, "daemon.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"labels":["a=b"]}`)
	var log bytes.Buffer
	d.cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, link, "-H", "fd://", "--containerd=/run/containerd/containerd.sock",
		"--data-root", filepath.Join(d.dir, "data"), "--exec-root", filepath.Join(d.dir, "run"), "--config-file", config)
	d.cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "NOTIFY_SOCKET="+notify.LocalAddr().String())
	d.cmd.ExtraFiles = []*os.File{given}
	d.cmd.Stdout, d.cmd.Stderr = &log, &log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	given.Close()
	ended := make(chan error, 1)
	go func() { ended <- d.cmd.Wait() }()
	told := func(want string) {
		t.Helper()
		if err := notify.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4096)
		n, err := notify.Read(b)
		if first, _, _ := strings.Cut(string(b[:n]), "\n"); err != nil || first != want {
			_ = d.cmd.Process.Kill()
			<-ended
			t.Fatalf("systemd is told %q, want %s (%v)\n%s", b[:n], want, err, log.String())
		}
	}
	told("READY=1")
	c := ours(d)
	if got := c.must(t, "info", "-f", "{{.Labels}}"); got != "[a=b]" {
		t.Errorf("labels %s", got)
	}
	events, err := d.http().Get("http://muelle/events?filters=" + `{"type":["daemon"]}`)
	if err != nil {
		t.Fatal(err)
	}
	defer events.Body.Close()
	write(`{"labels":["c=d"],"debug":true,"max-concurrent-downloads":7,"runtimes":{"other":{"path":"runc"}},"default-runtime":"other"}`)
	hangUp := func() {
		t.Helper()
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		told("RELOADING=1")
		told("READY=1")
	}
	hangUp()
	var e struct {
		Action string
		Actor  struct{ Attributes map[string]string }
	}
	if err := json.NewDecoder(events.Body).Decode(&e); err != nil || e.Action != "reload" || e.Actor.Attributes["max-concurrent-downloads"] != "7" {
		t.Errorf("%+v, %v", e, err)
	}
	if got := c.must(t, "info", "-f", "{{.Labels}} {{.Debug}}"); got != "[c=d] true" {
		t.Errorf("after the reload: %s", got)
	}
	if got := c.must(t, "info", "-f", "{{.DefaultRuntime}} {{(index .Runtimes \"other\").Path}}"); !strings.HasPrefix(got, "other /") {
		t.Errorf("runtimes after the reload: %s", got)
	}
	// What is wrong changes nothing.
	write(`{"labels":["e"]}`)
	hangUp()
	if got := c.must(t, "info", "-f", "{{.Labels}}"); got != "[c=d]" {
		t.Errorf("after a reload that failed: %s", got)
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told("STOPPING=1")
	if err := <-ended; err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
}

// ssh:// hosts, with a stand-in for ssh that runs the command here.
func TestSSHHost(t *testing.T) {
	dir := t.TempDir()
	d := world.daemon
	// What stands after the host goes to a shell there, as one text.
	script := "#!/bin/sh\nuntil [ \"$1\" = -- ]; do shift; done\nshift 2\nexport MUELLE_HOST=" + d.host() + " DOCKER_HOST=" + d.host() + "\nexec sh -c \"$*\"\n"
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(world.bin, "muelle"), filepath.Join(dir, "docker")); err != nil {
		t.Fatal(err)
	}
	forEach(t, func(t *testing.T, c client) {
		run := func(in string, env []string, args ...string) result {
			t.Helper()
			cmd := c.command(t.Context(), args...)
			cmd.Env = append(slices.DeleteFunc(cmd.Env, func(s string) bool {
				return strings.HasPrefix(s, "PATH=") || strings.HasPrefix(s, "DOCKER_HOST=") || strings.HasPrefix(s, "MUELLE_HOST=")
			}), append(env, "PATH="+dir+":"+world.bin+":"+os.Getenv("PATH"))...)
			var out, errs bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &errs
			_ = cmd.Run()
			return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
		}
		const there = "ssh://somebody@elsewhere"
		if r := run("through ssh", nil, "-H", there, "run", "--rm", "-i", "busybox", "cat"); r.out != "through ssh" || r.code != 0 {
			t.Errorf("-H: %+v", r)
		}
		if r := run("", []string{strings.ToUpper(c.name) + "_HOST=" + there}, "version", "-f", "{{.Server.Os}}"); r.out != "linux\n" {
			t.Errorf("environment: %+v", r)
		}
		name := "far-" + c.name
		if r := run("", nil, "context", "create", name, "--docker", "host="+there); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		if r := run("", nil, "--context", name, "run", "--rm", "busybox", "sh", "-c", "exit 7"); r.code != 7 {
			t.Errorf("context: %+v", r)
		}
		// One client's context is the other's after export and import.
		file := filepath.Join(dir, name)
		if r := run("", nil, "context", "export", name, file); r.code != 0 {
			t.Fatalf("%+v", r)
		}
		for _, other := range clients(t, d) {
			if other.name == c.name {
				continue
			}
			if out := other.must(t, "context", "import", "from-"+c.name, file); out != "from-"+c.name {
				t.Errorf("import: %s", out)
			}
			if out := other.must(t, "context", "inspect", "-f", "{{.Endpoints.docker.Host}}", "from-"+c.name); out != there {
				t.Errorf("imported host %s", out)
			}
			other.must(t, "context", "rm", "from-"+c.name)
		}
		if r := run("", nil, "context", "rm", name); r.code != 0 {
			t.Errorf("%+v", r)
		}
	})
}

// The oldest version of the API, with the unmodified client.
func TestOldestAPI(t *testing.T) {
	c := clients(t, world.daemon)[0]
	name := c.unique(t, "c")
	c.remove(t, name)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"run", "-d", "--name", name, "busybox", "sleep", "1000"}, ""},
		{[]string{"ps", "--filter", "name=" + name, "--format", "{{.Names}}"}, name},
		{[]string{"exec", name, "echo", "in"}, "in"},
		{[]string{"inspect", "-f", "{{.State.Status}} {{.HostConfig.IpcMode}}", name}, "running shareable"},
		{[]string{"info", "-f", "{{.SecurityOptions}}"}, "[seccomp]"},
		{[]string{"kill", name}, name},
		{[]string{"wait", name}, "137"},
		{[]string{"version", "-f", "{{.Client.APIVersion}}"}, "1.24"},
	} {
		cmd := c.command(context.WithoutCancel(t.Context()), tc.args...)
		cmd.Env = append(cmd.Env, "DOCKER_API_VERSION=1.24")
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || tc.want != "" && got != tc.want {
			t.Errorf("%v: %s, %v", tc.args, got, err)
		}
	}
}
