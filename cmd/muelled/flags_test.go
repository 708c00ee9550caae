package main

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
)

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func defaults() config {
	return config{
		DataRoot: "/var/lib/muelle", ExecRoot: "/run/muelle", Group: "muelle", LogLevel: "info", LogFormat: "text", LogDriver: "json-file", StopTimeout: 10,
		LiveRestore: true, DefaultRuntime: "muelle", MaxDownloads: 3, MaxAttempts: 5, MaxUploads: 5, ICC: true, Cooperation: true, Masquerade: true, ShutdownTimeout: 15,
	}
}

func TestParse(t *testing.T) {
	pool := addressPool{Base: netip.MustParsePrefix("10.0.0.0/8"), Size: 24}
	for _, tc := range []struct {
		name, file string
		args       []string
		want       func(c *config)
	}{
		{"nothing", "", nil, func(*config) {}},
		{"flags", "", []string{"-D", "-Hunix:///run/a.sock", "-H", "fd://", "--registry-mirror", "http://127.0.0.1:5050", "--bip=10.1.0.1/16", "--default-address-pool", "base=10.0.0.0/8,size=24"},
			func(c *config) {
				c.Debug, c.Hosts, c.RegistryMirrors, c.BIP = true, []string{"unix:///run/a.sock", "fd://"}, []string{"http://127.0.0.1:5050"}, "10.1.0.1/16"
				c.AddressPools = []addressPool{pool}
			}},
		{"file", `{"debug":true,"live-restore":false,"insecure-registries":["a:5000"],"default-address-pools":[{"base":"10.0.0.0/8","size":24}],"default-shm-size":"128M","log-opts":{"max-size":"1m"}}`, nil,
			func(c *config) {
				c.Debug, c.LiveRestore, c.InsecureRegistries, c.ShmSize = true, false, []string{"a:5000"}, 128<<20
				c.AddressPools, c.LogOpts = []addressPool{pool}, map[string]string{"max-size": "1m"}
			}},
		{"networks", `{"bip6":"fd00::1/64","fixed-cidr":"10.1.2.0/24","default-gateway":"10.1.0.9","ipv6":true,"mtu":1400,"icc":false,"ip":"127.0.0.1","ip-masq":false,
			"host-gateway-ip":"10.0.0.1","default-network-opts":{"bridge":{"a":"b"}},"max-download-attempts":7}`, nil,
			func(c *config) {
				c.BIP6, c.FixedCIDR, c.DefaultGateway, c.IPv6, c.MTU = "fd00::1/64", "10.1.2.0/24", netip.MustParseAddr("10.1.0.9"), true, 1400
				c.ICC, c.Masquerade, c.DefaultIP, c.HostGateway = false, false, netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("10.0.0.1")
				c.NetworkOpts, c.MaxAttempts = networkOpts{"bridge": {"a": "b"}}, 7
			}},
		{"group", `{"group":"docker"}`, nil, func(c *config) { c.Group = "docker" }},
		{"empty file", " ", nil, func(*config) {}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parse(append(tc.args, "--config-file", configFile(t, tc.file)), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			want := defaults()
			tc.want(&want)
			prefixes := cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})
			if diff := cmp.Diff(&want, got, cmpopts.IgnoreUnexported(config{}), cmpopts.EquateEmpty(), prefixes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		args       []string
		want       string
	}{
		{"builder key", `{"builder":{"gc":{"enabeld":true}}}`, nil, `builder: json: unknown field "enabeld"`},
		{"builder filter", `{"builder":{"gc":{"policy":[{"filter":["age=3h"]}]}}}`, nil, `builder: gc: rule 0 of the build cache: invalid filter 'age'`},
		{"builder size", `{"builder":{"gc":{"defaultKeepStorage":"lots"}}}`, nil, `builder: invalid size: 'lots'`},
		{"builder privileges", `{"builder":{"entitlements":{"security-insecure":true}}}`, nil, "builder: entitlements: security-insecure is not supported: no step of a build has privileges"},
		{"graph twice", `{"graph":"/a","data-root":"/b"}`, nil, `cannot specify both "graph" and "data-root": they are the old and the new name of one option`},
		{"graph and flag", "", []string{"-g", "/a", "--data-root", "/b"}, `cannot specify both "graph" and "data-root": they are the old and the new name of one option`},
		{"unknown key", `{"debgu":true,"zzz":1}`, nil, "the following directives don't match any configuration option: debgu, zzz"},
		{"refused", `{"ip-forward":false}`, nil, "ip-forward: false is not supported: forwarding is switched on with the first bridge network, off again with the last, and what concerns no container is not forwarded"},
		{"bridge and bip", `{"bridge":"br0","bip":"10.0.0.1/24"}`, nil, "you specified -b & --bip, mutually exclusive options, please specify only one"},
		{"mtu", `{"mtu":7}`, nil, "invalid default MTU: 7"},
		{"family", "", []string{"--ip", "::1"}, "ip: ::1 is of the wrong address family"},
		{"attempts", `{"max-download-attempts":0}`, nil, "max download attempts must be greater than zero: 0"},
		{"network option", "", []string{"--default-network-opt", "bridge=x"}, `invalid argument "bridge=x" for "--default-network-opt" flag: invalid value "bridge=x": use DRIVER=OPTION=VALUE`},
		{"refused flag", "", []string{"--iptables=false"}, "iptables: false is not supported: published ports and the separation of networks are rules; Muelle keeps them in nftables tables of its own"},
		{"proxies twice", `{"proxies":{"http-proxy":"http://u:p@h"}}`, []string{"--http-proxy", "http://u:p@i"}, "the following directives are specified both as a flag and in the configuration file: http-proxy: (from flag: ***, from file: ***)"},
		{"ignored twice", `{"containerd":"/a"}`, []string{"--containerd", "/b"}, `the following directives are specified both as a flag and in the configuration file: containerd: (from flag: /b, from file: "/a")`},
		{"twice", `{"debug":false}`, []string{"--debug"}, "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false)"},
		{"hosts twice", `{"hosts":["fd://"]}`, []string{"-H", "unix:///a"}, "the following directives are specified both as a flag and in the configuration file: hosts: (from flag: [unix:///a], from file: [\"fd://\"])"},
		{"no JSON", `{`, nil, "unexpected end of JSON input"},
		{"log driver", `{"log-driver":"nolog"}`, nil, "failed to set log opts: logger: no log driver named 'nolog' is registered"},
		{"log option", `{"log-opts":{"max-sise":"1m"}}`, nil, "failed to set log opts: unknown log opt 'max-sise' for json-file log driver"},
		{"level", "", []string{"-l", "loud"}, "invalid logging level: loud"},
		{"bip", "", []string{"--bip", "10.0.0.1"}, `bip: "10.0.0.1" is no address with a prefix length`},
		{"pool", "", []string{"--default-address-pool", "base=10.0.0.0/8,size=4"}, "default-address-pools: a size of 4 does not fit base 10.0.0.0/8"},
		{"host", `{"hosts":["ftp://a"]}`, nil, `host "ftp://a": it must begin with unix://, tcp:// or fd://`},
		{"socket", "", []string{"-H", "unix://run/a.sock"}, `host "unix://run/a.sock": "run/a.sock" is not an absolute path`},
		{"mirror", `{"registry-mirrors":["x"]}`, nil, `invalid registry mirror "x": want http://host:port or https://host:port`},
		{"argument", "", []string{"start"}, `muelled takes no arguments, but was given ["start"]`},
		{"label", "", []string{"--label", "x"}, "bad attribute format: x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := configFile(t, tc.file)
			_, err := parse(append(tc.args, "--config-file", path), io.Discard)
			if err == nil {
				t.Fatal("accepted")
			}
			got := strings.TrimPrefix(err.Error(), "unable to configure the daemon with file "+path+": ")
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfigFileMustExistWhenNamed(t *testing.T) {
	_, err := parse([]string{"--config-file", "/nonexistent/daemon.json"}, io.Discard)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestHelp(t *testing.T) {
	if _, err := parse([]string{"--help"}, io.Discard); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("got %v", err)
	}
}

func TestCheckKernel(t *testing.T) {
	for _, tc := range []struct{ name, release, want string }{
		{"new", "6.18.0-1-amd64", ""},
		{"just new enough", "5.10.0", ""},
		{"old", "4.19.0-27-amd64", "this kernel is 4.19.0-27-amd64, which lacks clone3 and pidfd_open: Muelle needs Linux 5.10 or newer"},
		{"nearly", "5.8.18", "this kernel is 5.8.18, which lacks close_range: Muelle needs Linux 5.10 or newer"},
		{"odd", "unknown", `cannot read the kernel's version "unknown"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if err := checkKernel(tc.release); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPlacesAreLocked(t *testing.T) {
	dir := t.TempDir()
	c := &config{DataRoot: filepath.Join(dir, "data"), ExecRoot: filepath.Join(dir, "exec")}
	p, err := takePlaces(c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.release()
	for path, want := range map[string]os.FileMode{p.data: 0o710, p.exec: 0o711} {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %o", path, fi.Mode().Perm())
		}
	}
	if len(p.instance) != 8 {
		t.Errorf("instance %q", p.instance)
	}
	again := &config{DataRoot: c.DataRoot, ExecRoot: filepath.Join(dir, "other")}
	if _, err := takePlaces(again); err == nil || !strings.Contains(err.Error(), "in use by another muelled (pid ") {
		t.Errorf("got %v", err)
	}
	p.release()
	second, err := takePlaces(again)
	if err != nil {
		t.Fatal(err)
	}
	second.release()
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct{ name, host, want string }{
		{"tcp", "tcp://127.0.0.1:0", "refused, because"},
		{"tcp unsaid", "127.0.0.1:0", "refused, because"},
		{"other", "http://x", "it must begin with unix://, tcp:// or fd://"},
		{"no scheme", "/run/x", "it must begin with unix://, tcp:// or fd://"},
		{"relative", "unix://x", "is not an absolute path"},
		{"no socket", "unix://" + dir, "something that is no socket is in its place"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := listen(&config{Hosts: []string{tc.host}}, &places{exec: dir}, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	path := filepath.Join(dir, "a.sock")
	first, err := listenUnix(path, "", false)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if _, err := listenUnix(path, "", false); err == nil || err.Error() != "another process answers there" {
		t.Errorf("got %v", err)
	}
}
