//go:build root

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// elsewhere are the options whose effect another test shows.
var elsewhere = map[string]string{
	"graph": "TestReload", "--config-file": "TestEveryOptionHasItsEffect", "debug": "TestDockerdUnit", "tls": "TestTCPNeedsMutualTLS", "tlsverify": "TestDaemonOptions",
	"tlscacert": "TestDaemonOptions", "tlscert": "TestDaemonOptions", "tlskey": "TestDaemonOptions", "metrics-addr": "TestDaemonOptions",
	"max-download-attempts": "TestPullTriesAgain", "default-runtime": "TestDockerdUnit", "runtimes": "TestOtherRuntime", "cdi-spec-dirs": "TestCDI",
	"apparmor-profile": "TestAppArmorOfTheDaemon", "userns-remap": "TestUserNamespaces", "bridge": "TestDefaultBridgeOfTheHost",
	"default-gateway-v6": "TestDefaultBridgeIPv6", "host-gateway-ip": "TestReload", "builder": "TestKeep", "cpu-rt-period": "TestRealtimeProcessorTime", "cpu-rt-runtime": "TestRealtimeProcessorTime", "live-restore": "TestEveryOptionHasItsEffect",
	"--validate": "TestEveryOptionHasItsEffect", "--version": "TestEveryOptionHasItsEffect",
	"max-concurrent-downloads": "TestReload", "max-concurrent-uploads": "TestReload", "shutdown-timeout": "TestReload",
}

// honoured are the options that docs/drop-in.md says work, by their key or else flag.
func honoured(t *testing.T) (names []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/drop-in.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (?:`(--[a-z0-9-]+)`[^|]*)? *\\| (?:`([a-z0-9-]+)`)? *\\| works")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if m[2] == "" {
			m[2] = m[1]
		}
		names = append(names, m[2])
	}
	return names
}

// gate is a proxy that lets nothing through and remembers what was asked of it.
type gate struct {
	mu    sync.Mutex
	asked []string
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, r.Method+" "+r.URL.Host)
	w.WriteHeader(http.StatusBadGateway)
}

func (g *gate) saw(s string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Contains(g.asked, s)
}

// TestEveryOptionHasItsEffect: one daemon.json with every key that docs/drop-in.md says
// works, and what becomes of each.
func TestEveryOptionHasItsEffect(t *testing.T) {
	dir := t.TempDir()
	profile := filepath.Join(dir, "seccomp.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	plain, secure := &gate{}, &gate{}
	first, second := httptest.NewServer(plain), httptest.NewServer(secure)
	defer first.Close()
	defer second.Close()
	d := newDaemon("options")
	other := filepath.Join(d.dir, "other.sock")
	conf := map[string]any{
		"data-root": filepath.Join(d.dir, "data"), "exec-root": filepath.Join(d.dir, "run"), "pidfile": filepath.Join(d.dir, "pid"),
		"hosts": []string{d.host(), "unix://" + other}, "group": "daemon", "min-api-version": "1.30", "log-level": "warn", "log-format": "json",
		"registry-mirrors": []string{"http://mirror.test:5000"}, "insecure-registries": []string{"mirror.test:5000"},
		"http-proxy": first.URL, "https-proxy": second.URL, "no-proxy": "direct.test",
		"labels": []string{"rack=7"}, "oom-score-adjust": 77, "experimental": true, "features": map[string]bool{"cdi": false}, "live-restore": false,
		"log-driver": "local", "log-opts": map[string]string{"max-size": "1m"},
		"default-shm-size": "8M", "default-ulimits": map[string]any{"nofile": map[string]any{"Name": "nofile", "Hard": 2048, "Soft": 1024}},
		"default-ipc-mode": "shareable", "default-cgroupns-mode": "private", "default-stop-timeout": 1, "init": true,
		"cgroup-parent": "/muelle-options-test", "exec-opts": []string{"native.cgroupdriver=cgroupfs"},
		"seccomp-profile": profile, "no-new-privileges": true, "selinux-enabled": false,
		"bip": "10.77.0.1/24", "fixed-cidr": "10.77.0.128/25", "default-gateway": "10.77.0.2", "mtu": 1400, "icc": false, "ip": "127.0.0.1", "ip-masq": false,
		"ipv6": true, "bip6": "fd77::1/64", "fixed-cidr-v6": "fd77::8000/113",
		"default-address-pools": []map[string]any{{"base": "10.78.0.0/16", "size": 26}},
		"default-network-opts":  map[string]any{"bridge": map[string]string{"com.docker.network.driver.mtu": "1390"}},
		"dns":                   []string{"192.0.2.53"}, "dns-opts": []string{"ndots:3"}, "dns-search": []string{"example.test"}, "host-gateway-ips": []string{"192.0.2.7"},
	}
	text, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	d.file = string(text)
	binary := filepath.Join(world.bin, "muelled")
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(binary, "--validate", "--config-file", file).CombinedOutput(); err != nil || string(out) != "configuration OK\n" {
		t.Errorf("--validate: %s, %v", out, err)
	}
	if out, err := exec.Command(binary, "--validate", "--config-file", file, "--mtu", "1").CombinedOutput(); err == nil {
		t.Errorf("--validate of a wrong file: %s", out)
	}
	if out, err := exec.Command(binary, "--version").CombinedOutput(); err != nil || !strings.Contains(string(out), "version ") {
		t.Errorf("--version: %s, %v", out, err)
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.shutdown(); err != nil {
			t.Error(err)
		}
		_ = os.Remove("/sys/fs/cgroup/muelle-options-test") // of cgroup v2
		for _, left := range globbed("/sys/fs/cgroup/*/muelle-options-test") {
			_ = syscall.Rmdir(left)
		}
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", tail(d.log()))
		}
	})
	c := ours(d)
	img := whyImage(t, c)
	c.must(t, "run", "-d", "--name", "one", "--cap-add", "ALL", "-p", "80", "--add-host", "gate:host-gateway", img, "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	inspect := func(format string) func() string {
		return func() string { return c.must(t, "inspect", "-f", format, "one") }
	}
	inside := func(command string) func() string {
		return func() string { return c.must(t, "exec", "one", "sh", "-c", command) }
	}
	info := func(format string) func() string { return func() string { return c.must(t, "info", "-f", format) } }
	bridge := func(format string) func() string {
		return func() string { return c.must(t, "network", "inspect", "-f", format, "bridge") }
	}
	read := func(path string) func() string {
		return func() string {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			return strings.TrimSpace(string(b))
		}
	}
	stat := func(path string) func() string {
		return func() string {
			fi, err := os.Stat(path)
			if err != nil {
				return err.Error()
			}
			return fmt.Sprint(fi.Sys().(*syscall.Stat_t).Gid)
		}
	}
	c.try(t, "pull", "nosuch")
	direct := c.try(t, "pull", "direct.test/x")
	c.must(t, "network", "create", "pooled")
	t.Cleanup(func() { c.must(t, "network", "rm", "pooled") })
	pid := strconv.Itoa(d.cmd.Process.Pid)
	checks := map[string]struct {
		got  func() string
		want string // a regular expression
	}{
		"data-root": {info("{{.DockerRootDir}}"), "^" + d.dir + "/data$"}, "exec-root": {stat(d.dir + "/run/containers"), "^[0-9]+$"}, "pidfile": {read(d.dir + "/pid"), "^" + pid + "$"},
		"hosts": {func() string { return c.must(t, "-H", "unix://"+other, "info", "-f", "{{.OSType}}") }, "^linux$"}, "group": {stat(other), "^1$"},
		"min-api-version": {func() string { return status(t, d, "/v1.29/version") }, "^400 .*Minimum supported API version is 1.30"},
		"log-level":       {func() string { return strconv.Itoa(strings.Count(read(d.log())(), `"level":"INFO"`)) }, "^0$"},
		"log-format":      {read(d.log()), `^(?s)(\{"time".*)?$`},
		"registry-mirrors": {func() string {
			return fmt.Sprint(plain.saw("GET mirror.test:5000") || plain.saw("HEAD mirror.test:5000"))
		}, "^true$"},
		"insecure-registries": {info("{{range .RegistryConfig.IndexConfigs}}{{.Name}}={{.Secure}} {{end}}"), "mirror.test:5000=false"},
		"http-proxy":          {func() string { return fmt.Sprint(len(plain.asked) > 0) + info("{{.HTTPProxy}}")() }, "^true" + first.URL + "$"},
		"https-proxy":         {func() string { return fmt.Sprint(secure.saw("CONNECT ")) + fmt.Sprint(secure.asked) }, "CONNECT"},
		"no-proxy":            {func() string { return fmt.Sprint(direct.err, info("{{.NoProxy}}")()) }, "lookup direct.test(?s).*direct.test"},
		"labels":              {info("{{.Labels}}"), `^\[rack=7\]$`}, "oom-score-adjust": {read("/proc/" + pid + "/oom_score_adj"), "^77$"},
		"experimental": {info("{{.ExperimentalBuild}}"), "^true$"}, "features": {info("{{.CDISpecDirs}}"), `^\[\]$`},
		"log-driver": {inspect("{{.HostConfig.LogConfig.Type}}"), "^local$"}, "log-opts": {inspect("{{.HostConfig.LogConfig.Config}}"), "max-size:1m"},
		"default-shm-size": {inside("busybox df -k /dev/shm"), ` 8192 `}, "default-ulimits": {inside("ulimit -Sn; ulimit -Hn"), "^1024\n2048$"},
		"default-ipc-mode": {inspect("{{.HostConfig.IpcMode}}"), "^shareable$"}, "default-cgroupns-mode": {inside("cat /proc/1/cgroup"), "0::/$"},
		"init": {read("/proc/" + inspect("{{.State.Pid}}")() + "/cmdline"), "init"}, "cgroup-parent": {read("/proc/" + inspect("{{.State.Pid}}")() + "/cgroup"), "/muelle-options-test/"},
		"exec-opts": {info("{{.CgroupDriver}}"), "^cgroupfs$"}, "selinux-enabled": {info("{{.SecurityOptions}}"), `^[^s]*(name=seccomp[^]]*)?[^x]*\]$`},
		"seccomp-profile":   {func() string { return c.try(t, "exec", "one", "mkdir", "/m").err }, "Operation not permitted"},
		"no-new-privileges": {inside("busybox grep NoNewPrivs /proc/self/status"), "1$"},
		"bip":               {bridge("{{range .IPAM.Config}}{{.Subnet}} {{end}}"), "10.77.0.0/24"}, "fixed-cidr": {inspect("{{.NetworkSettings.Networks.bridge.IPAddress}}"), `^10\.77\.0\.(12[89]|1[3-9].|2..)$`},
		"default-gateway": {inside("busybox ip route"), "default via 10.77.0.2 "}, "mtu": {inside("cat /sys/class/net/eth0/mtu"), "^1400$"},
		"icc": {bridge(`{{index .Options "com.docker.network.bridge.enable_icc"}}`), "^false$"}, "ip-masq": {bridge(`{{index .Options "com.docker.network.bridge.enable_ip_masquerade"}}`), "^false$"},
		"ip": {func() string { return c.must(t, "port", "one") }, "^80/tcp -> 127.0.0.1:[0-9]+$"}, "ipv6": {bridge("{{.EnableIPv6}}"), "^true$"},
		"bip6":          {bridge("{{range .IPAM.Config}}{{.Gateway}} {{end}}"), "fd77::1"},
		"fixed-cidr-v6": {inspect("{{.NetworkSettings.Networks.bridge.GlobalIPv6Address}}"), "^fd77::[89a-f]"},
		"default-address-pools": {func() string {
			return c.must(t, "network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", "pooled")
		}, `^10\.78\..*/26$`},
		"default-network-opts": {func() string { return c.must(t, "network", "inspect", "-f", "{{.Options}}", "pooled") }, "com.docker.network.driver.mtu:1390"},
		"dns":                  {inside("cat /etc/resolv.conf"), "nameserver 192.0.2.53"}, "dns-opts": {inside("cat /etc/resolv.conf"), "options .*ndots:3"},
		"dns-search": {inside("cat /etc/resolv.conf"), "search example.test"}, "host-gateway-ips": {inside("cat /etc/hosts"), "192.0.2.7\tgate"},
		"default-stop-timeout": {func() string {
			c.must(t, "run", "-d", "--name", "two", img, "sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done")
			c.eventuallyLogs(t, "two", "deaf")
			return c.must(t, "stop", "two") + inspectOf(c, t, "two")
		}, "^two137$"},
	}
	for _, name := range honoured(t) {
		check, here := checks[name]
		if !here {
			if !isTest(t, elsewhere[name]) {
				t.Errorf("no test shows the effect of %s (%q)", name, elsewhere[name])
			}
			continue
		}
		if got := check.got(); !regexp.MustCompile(check.want).MatchString(got) {
			t.Errorf("%s: %q does not match %s", name, got, check.want)
		}
	}
	// live-restore false: what runs is stopped with the daemon.
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-d.ended; err != nil {
		t.Error(err)
	}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	if got := inspect("{{.State.Status}} {{.State.ExitCode}}")(); got != "exited 137" {
		t.Errorf("live-restore: after the daemon's end the container is %s", got)
	}
	c.must(t, "rm", "one", "two")
}

func inspectOf(c client, t *testing.T, name string) string {
	t.Helper()
	return c.must(t, "inspect", "-f", "{{.State.ExitCode}}", name)
}

// status is the status and body of an answer.
func status(t *testing.T, d *daemon, path string) string {
	t.Helper()
	r, err := d.http().Get("http://muelle" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var m struct{ Message string }
	_ = json.NewDecoder(r.Body).Decode(&m)
	return fmt.Sprint(r.StatusCode, " ", m.Message)
}

func globbed(pattern string) []string {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil
	}
	return found
}

// isTest tells whether the repository has a test of that name.
func isTest(t *testing.T, name string) bool {
	t.Helper()
	out, err := exec.Command("grep", "-rlE", "--include=*_test.go", "^func "+name+`\(`, "../..").Output()
	return name != "" && err == nil && len(out) > 0
}
