package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the table of docs/drop-in.md")

// dockerFlags are those of dockerd 20.10 to 29, from its --help and its sources.
var dockerFlags = strings.Fields(`add-runtime allow-direct-routing allow-nondistributable-artifacts api-cors-header apparmor-profile
	authorization-plugin bip bip6 bridge bridge-accept-fwmark cdi-spec-dir cgroup-parent cluster-advertise cluster-store
	cluster-store-opt config-file containerd containerd-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime
	cri-containerd data-root debug default-address-pool default-cgroupns-mode default-gateway default-gateway-v6
	default-ipc-mode default-network-opt default-runtime default-shm-size default-stop-timeout default-ulimit dns dns-opt
	dns-search exec-opt exec-root experimental extension-dir feature firewall-backend fixed-cidr fixed-cidr-v6 graph group
	host host-gateway-ip http-proxy https-proxy icc init init-path insecure-registry ip ip-forward ip-forward-no-drop
	ip-masq ip6tables iptables ipv6 label live-restore log-driver log-format log-level log-opt max-concurrent-downloads
	max-concurrent-uploads max-download-attempts metrics-addr mtu network-control-plane-mtu network-diagnostic-port
	no-new-privileges no-proxy node-generic-resource nri-opts oom-score-adjust pidfile raw-logs registry-mirror restart
	rootless seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opt swarm-default-advertise-addr tls
	tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap validate version`)

// dockerKeys are those of its daemon.json.
var dockerKeys = strings.Fields(`allow-direct-routing allow-nondistributable-artifacts api-cors-header apparmor-profile
	authorization-plugins bip bip6 bridge bridge-accept-fwmark builder cdi-spec-dirs cgroup-parent containerd
	containerd-namespace containerd-plugin-namespace cpu-rt-period cpu-rt-runtime cri-containerd data-root debug
	default-address-pools default-cgroupns-mode default-gateway default-gateway-v6 default-init default-ipc-mode
	default-network-opts default-runtime default-shm-size default-stop-timeout default-ulimits deprecated-key-path dns
	dns-opts dns-search exec-opts exec-root experimental extension-config extension-dirs features firewall-backend
	fixed-cidr fixed-cidr-v6 graph group host-gateway-ip host-gateway-ips hosts http-proxy https-proxy icc init init-path
	insecure-registries ip ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 labels live-restore log-driver
	log-format log-level log-opts max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr
	min-api-version mtu network-control-plane-mtu network-diagnostic-port no-new-privileges no-proxy
	node-generic-resources nri-opts pidfile raw-logs registry-mirrors resolv-conf rootless runtimes seccomp-profile
	selinux-enabled shutdown-timeout storage-driver storage-opts swarm-default-advertise-addr swarm-raft-election-tick
	swarm-raft-heartbeat-tick tls tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap`)

func TestEveryOptionOfDocker(t *testing.T) {
	flags, keys := map[string]bool{}, map[string]bool{}
	for _, o := range options {
		if o.flag != "" && flags[o.flag] || o.key != "" && keys[o.key] {
			t.Errorf("%s stands twice in the table", o.name())
		}
		flags[o.flag], keys[o.key] = true, true
		if (o.class == ignored || o.class == refused) != (o.why != "") {
			t.Errorf("%s: a reason belongs to what has no effect or is refused, and to that only", o.name())
		}
		if o.class == works && o.usage == "" {
			t.Errorf("%s has no help", o.name())
		}
	}
	for _, f := range dockerFlags {
		if !flags[f] {
			t.Errorf("--%s is missing", f)
		}
	}
	for _, k := range dockerKeys {
		if !keys[k] {
			t.Errorf("the key %s is missing", k)
		}
	}
}

// Every key that works has a field that takes it, and no field is without a key.
func TestEveryKeyHasAField(t *testing.T) {
	fields := map[string]bool{}
	for f := range reflect.TypeFor[config]().Fields() {
		if tag := f.Tag.Get("json"); tag != "" {
			fields[tag] = true
		}
	}
	for _, o := range options {
		if o.key == "" {
			continue
		}
		if has := o.class == works || o.class == ours; has != fields[o.key] {
			t.Errorf("%s: class %q, field %v", o.key, o.class, fields[o.key])
		}
		delete(fields, o.key)
	}
	for k := range fields {
		t.Errorf("the field of %s belongs to no option", k)
	}
}

func TestWhatHasNoEffectIsSaid(t *testing.T) {
	// The line of Debian's and Docker's units.
	c, err := parse([]string{"-H", "fd://", "--containerd=/run/containerd/containerd.sock", "--userland-proxy=false", "--iptables", "-s", "overlay2", "--config-file",
		configFile(t, `{"features":{"buildkit":true},"raw-logs":true,"storage-opts":[]}`)}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"containerd: /run/containerd/containerd.sock has no effect: " + noContainerd,
		"userland-proxy: false has no effect: ports are published without a process per port, on the loopback address too",
		"raw-logs: true has no effect: the log has full timestamps and no colours anyway",
	}
	if diff := cmp.Diff(want, c.notices()); diff != "" {
		t.Error(diff)
	}
}

// A daemon.json as people have it: every key is taken, and what has no effect is said.
func TestTypicalFile(t *testing.T) {
	c, err := parse([]string{"-H", "fd://", "--containerd=/run/containerd/containerd.sock", "--config-file", configFile(t, `{
		"log-driver": "json-file", "log-opts": {"max-size": "100m", "max-file": "3", "labels": "production", "env": "os,customer"},
		"storage-driver": "overlay2", "storage-opts": ["overlay2.override_kernel_check=true"],
		"live-restore": true, "userland-proxy": false, "iptables": true, "ip6tables": true, "icc": false, "mtu": 1450, "ip": "127.0.0.1",
		"bip": "10.200.0.1/24", "fixed-cidr": "10.200.0.128/25", "ipv6": true, "fixed-cidr-v6": "2001:db8:1::/64",
		"default-address-pools": [{"base": "172.30.0.0/16", "size": 24}, {"base": "192.168.64.0/18", "size": 26}],
		"registry-mirrors": ["https://mirror.example.org"], "insecure-registries": ["http://registry.example.org:5000", "10.0.0.0/8"],
		"dns": ["10.0.0.2", "8.8.8.8"], "dns-opts": ["ndots:1"], "dns-search": ["example.org"],
		"exec-opts": ["native.cgroupdriver=cgroupfs"], "cgroup-parent": "", "default-cgroupns-mode": "host",
		"features": {"buildkit": true, "containerd-snapshotter": true}, "builder": {"gc": {"enabled": true, "defaultKeepStorage": "20GB"}},
		"metrics-addr": "127.0.0.1:9323", "experimental": true, "debug": false, "log-level": "warn", "labels": ["rack=7"],
		"max-concurrent-downloads": 10, "max-concurrent-uploads": 10, "max-download-attempts": 5, "shutdown-timeout": 30,
		"default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}}, "default-shm-size": "128M",
		"no-new-privileges": true, "selinux-enabled": false, "userns-remap": "", "group": "docker", "data-root": "/srv/docker",
		"default-runtime": "runc", "runtimes": {}, "init": true, "oom-score-adjust": -500, "swarm-default-advertise-addr": "",
		"tls": true, "tlsverify": true, "tlscacert": "/c/ca.pem", "tlscert": "/c/cert.pem", "tlskey": "/c/key.pem",
		"proxies": {"http-proxy": "http://proxy:3128", "no-proxy": "localhost"}
	}`)}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"containerd", "insecure-registries", "ip6tables", "swarm-default-advertise-addr", "userland-proxy"}
	var got []string
	for _, line := range c.notices() {
		name, _, _ := strings.Cut(line, ":")
		got = append(got, name)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c.HTTPProxy != "http://proxy:3128" || !c.TLSVerify || c.ICC || c.MTU != 1450 || c.LogOpts["labels"] != "production" {
		t.Errorf("%+v", c)
	}
}

const (
	tableBegin = "<!-- table of cmd/muelled/options.go; go test ./cmd/muelled -update writes it -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

func optionTable() string {
	var b strings.Builder
	b.WriteString("\n| flag | key of daemon.json | here |\n|---|---|---|\n")
	for _, o := range options {
		flag, key, here := "", "", o.class.String()
		if o.flag != "" {
			flag = "`--" + o.flag + "`"
		}
		if o.short != "" {
			flag += ", `-" + o.short + "`"
		}
		if o.key != "" {
			key = "`" + o.key + "`"
		}
		if o.reload {
			here += ", SIGHUP reloads it"
		}
		var fine []string
		for _, v := range o.fine {
			if v != "" {
				fine = append(fine, "`"+v+"`")
			}
		}
		if len(fine) > 0 {
			here += ", except " + strings.Join(fine, ", ")
		}
		if o.why != "" {
			here += ": " + o.why
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", flag, key, strings.ReplaceAll(here, "|", "\\|"))
	}
	b.WriteString("\n")
	return b.String()
}

func TestTableIsDocumented(t *testing.T) {
	const path = "../../docs/drop-in.md"
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), tableBegin)
	have, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+tableBegin+optionTable()+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(optionTable(), have); diff != "" {
		t.Errorf("%s is not what the program does (go test ./cmd/muelled -update):\n%s", path, diff)
	}
}
