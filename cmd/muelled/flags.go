package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"muelle/api"
)

// config is what flags and daemon.json say; the tags are Docker's keys.
type config struct {
	DataRoot           string            `json:"data-root"`
	ExecRoot           string            `json:"exec-root"`
	Pidfile            string            `json:"pidfile"`
	Hosts              []string          `json:"hosts"`
	Group              string            `json:"group"`
	RegistryMirrors    []string          `json:"registry-mirrors"`
	InsecureRegistries []string          `json:"insecure-registries"`
	Debug              bool              `json:"debug"`
	LogLevel           string            `json:"log-level"`
	BIP                string            `json:"bip"`
	AddressPools       []addressPool     `json:"default-address-pools"`
	Labels             []string          `json:"labels"`
	LogDriver          string            `json:"log-driver"`
	LogOpts            map[string]string `json:"log-opts"`
	ShmSize            size              `json:"default-shm-size"`
	Init               bool              `json:"init"`
	LiveRestore        bool              `json:"live-restore"`
	MaxDownloads       int               `json:"max-concurrent-downloads"`
	MaxUploads         int               `json:"max-concurrent-uploads"`
	ShutdownTimeout    int               `json:"shutdown-timeout"`
	AllowInsecureTCP   bool              `json:"allow-insecure-tcp"`
	TLS                bool              `json:"tls"`
	TLSVerify          bool              `json:"tlsverify"`
	TLSCACert          string            `json:"tlscacert"`
	TLSCert            string            `json:"tlscert"`
	TLSKey             string            `json:"tlskey"`

	file        string
	groupGiven  bool
	showVersion bool
	validate    bool
}

// addressPool is one of default-address-pools.
type addressPool struct {
	Base netip.Prefix `json:"base"`
	Size int          `json:"size"`
}

// keyOf maps flags to the keys of daemon.json where they differ.
var keyOf = map[string]string{
	"host": "hosts", "registry-mirror": "registry-mirrors", "insecure-registry": "insecure-registries",
	"default-address-pool": "default-address-pools", "label": "labels", "log-opt": "log-opts",
}

func (c *config) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("muelled", pflag.ContinueOnError)
	f.SortFlags = true
	f.StringVar(&c.DataRoot, "data-root", api.DefaultDataRoot, "Root directory of persistent state")
	f.StringVar(&c.ExecRoot, "exec-root", api.DefaultExecRoot, "Root directory for execution state files")
	f.StringVarP(&c.Pidfile, "pidfile", "p", "", "Path to use for daemon PID file (default EXEC-ROOT/muelled.pid)")
	f.StringArrayVarP(&c.Hosts, "host", "H", nil, "Daemon socket(s) to listen on (default unix://EXEC-ROOT/muelle.sock)")
	f.StringVarP(&c.Group, "group", "G", "muelle", "Group for the unix socket")
	f.StringVar(&c.file, "config-file", api.DefaultConfigFile, "Daemon configuration file")
	f.StringArrayVar(&c.RegistryMirrors, "registry-mirror", nil, "Preferred registry mirror")
	f.StringArrayVar(&c.InsecureRegistries, "insecure-registry", nil, "Enable insecure registry communication")
	f.BoolVarP(&c.Debug, "debug", "D", false, "Enable debug mode")
	f.StringVarP(&c.LogLevel, "log-level", "l", "info", `Set the logging level ("debug"|"info"|"warn"|"error")`)
	f.StringVar(&c.BIP, "bip", "", "IPv4 address for the default bridge, with its prefix length")
	f.Var((*poolsFlag)(&c.AddressPools), "default-address-pool", "Default address pools for node specific local networks (base=10.0.0.0/8,size=24)")
	f.StringArrayVar(&c.Labels, "label", nil, "Set key=value labels to the daemon")
	f.StringVar(&c.LogDriver, "log-driver", "json-file", "Default driver for container logs")
	f.StringToStringVar(&c.LogOpts, "log-opt", nil, "Default log driver options for containers")
	f.Var(&c.ShmSize, "default-shm-size", "Default shm size for containers")
	f.BoolVar(&c.Init, "init", false, "Run an init in the container to forward signals and reap processes")
	f.BoolVar(&c.LiveRestore, "live-restore", true, "Keep containers running while the daemon is stopped")
	f.IntVar(&c.MaxDownloads, "max-concurrent-downloads", 3, "Set the max concurrent downloads")
	f.IntVar(&c.MaxUploads, "max-concurrent-uploads", 5, "Set the max concurrent uploads")
	f.IntVar(&c.ShutdownTimeout, "shutdown-timeout", 15, "Set the default shutdown timeout in seconds")
	f.BoolVar(&c.AllowInsecureTCP, "allow-insecure-tcp", false, "Allow tcp:// without TLS: whoever reaches the port is root on this machine")
	f.BoolVar(&c.TLS, "tls", false, "Use TLS; implied by --tlsverify (not supported yet)")
	f.BoolVar(&c.TLSVerify, "tlsverify", false, "Use TLS and verify the remote (not supported yet)")
	f.StringVar(&c.TLSCACert, "tlscacert", "", "Trust certs signed only by this CA (not supported yet)")
	f.StringVar(&c.TLSCert, "tlscert", "", "Path to TLS certificate file (not supported yet)")
	f.StringVar(&c.TLSKey, "tlskey", "", "Path to TLS key file (not supported yet)")
	f.BoolVarP(&c.showVersion, "version", "v", false, "Print version information and quit")
	f.BoolVar(&c.validate, "validate", false, "Validate daemon configuration and exit")
	return f
}

// parse reads the command line and the configuration file.
func parse(args []string, out io.Writer) (*config, error) {
	c := &config{}
	f := c.flags()
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprintf(out, "Usage: muelled [OPTIONS]\n\nThe daemon of Muelle.\n\nOptions:\n%s", f.FlagUsages())
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("muelled takes no arguments, but was given %q", f.Args())
	}
	if err := c.readFile(f); err != nil {
		return nil, err
	}
	c.groupGiven = c.groupGiven || f.Changed("group")
	return c, c.check()
}

// readFile merges daemon.json into what the flags said. The default file may be
// missing, a named one may not.
func (c *config) readFile(f *pflag.FlagSet) error {
	b, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) && !f.Changed("config-file") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unable to configure the daemon with file %s: %w", c.file, err)
	}
	if err := c.merge(f, b); err != nil {
		return fmt.Errorf("unable to configure the daemon with file %s: %w", c.file, err)
	}
	return nil
}

func (c *config) merge(f *pflag.FlagSet, b []byte) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return err
	}
	known := map[string]*pflag.Flag{}
	f.VisitAll(func(fl *pflag.Flag) {
		switch fl.Name {
		case "config-file", "version", "validate", "help":
			return
		}
		key := fl.Name
		if k, ok := keyOf[key]; ok {
			key = k
		}
		known[key] = fl
	})
	var unknown, unsupported, twice []string
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		fl, ok := known[key]
		switch {
		case ok && fl.Changed:
			twice = append(twice, fmt.Sprintf("%s: (from flag: %s, from file: %s)", key, fl.Value, compact(keys[key])))
		case ok:
		case slices.Contains(dockerKeys, key):
			unsupported = append(unsupported, key)
		default:
			unknown = append(unknown, key)
		}
	}
	switch {
	case len(unknown) > 0:
		return fmt.Errorf("the following directives don't match any configuration option: %s", strings.Join(unknown, ", "))
	case len(unsupported) > 0:
		return fmt.Errorf("the following directives of Docker are not supported by Muelle: %s", strings.Join(unsupported, ", "))
	case len(twice) > 0:
		return fmt.Errorf("the following directives are specified both as a flag and in the configuration file: %s", strings.Join(twice, ", "))
	}
	_, c.groupGiven = keys["group"]
	return json.Unmarshal(b, c)
}

func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

// dockerKeys are the directives of Docker's daemon.json that Muelle has no
// counterpart for: they are refused by name rather than taken for misspelt.
var dockerKeys = strings.Fields(`
	allow-nondistributable-artifacts api-cors-header authorization-plugins bridge bridge-accept-fwmark builder cdi-spec-dirs
	cgroup-parent containerd containerd-namespace containerd-plugin-namespace cpu-rt-period cpu-rt-runtime
	default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-network-opts default-runtime
	default-ulimits dns dns-opts dns-search exec-opts experimental features firewall-backend fixed-cidr fixed-cidr-v6
	host-gateway-ip host-gateway-ips http-proxy https-proxy icc init-path ip ip-forward ip-forward-no-drop ip-masq ip6tables
	iptables ipv6 log-format max-download-attempts metrics-addr min-api-version mtu network-control-plane-mtu
	no-new-privileges no-proxy node-generic-resources oom-score-adjust proxies raw-logs rootless runtimes
	seccomp-profile selinux-enabled storage-driver storage-opts swarm-default-advertise-addr userland-proxy
	userland-proxy-path userns-remap`)

// check refuses what contradicts itself or is not supported yet.
func (c *config) check() error {
	switch {
	case c.TLS || c.TLSVerify || c.TLSCACert != "" || c.TLSCert != "" || c.TLSKey != "":
		return errors.New("TLS (tls, tlsverify, tlscacert, tlscert, tlskey) is not supported yet")
	case c.MaxDownloads < 1 || c.MaxUploads < 1:
		return errors.New("max-concurrent-downloads and max-concurrent-uploads must be at least 1")
	case c.ShutdownTimeout < 0:
		return fmt.Errorf("shutdown-timeout: %d seconds are less than none", c.ShutdownTimeout)
	case !slices.Contains([]string{"json-file", "local", "none"}, c.LogDriver):
		return fmt.Errorf("log-driver: the log driver %s is not supported", c.LogDriver)
	}
	if c.BIP != "" {
		if _, err := netip.ParsePrefix(c.BIP); err != nil {
			return fmt.Errorf("bip: %q is no address with a prefix length", c.BIP)
		}
	}
	for _, p := range c.AddressPools {
		if err := p.check(); err != nil {
			return err
		}
	}
	for _, l := range c.Labels {
		if key, _, ok := strings.Cut(l, "="); !ok || key == "" {
			return fmt.Errorf("bad attribute format: %s", l)
		}
	}
	_, err := c.level()
	return err
}

func (p addressPool) check() error {
	if !p.Base.IsValid() || p.Size < p.Base.Bits() || p.Size > p.Base.Addr().BitLen() {
		return fmt.Errorf("default-address-pools: a size of %d does not fit base %s", p.Size, p.Base)
	}
	return nil
}

// poolsFlag collects --default-address-pool base=CIDR,size=N.
type poolsFlag []addressPool

func (p *poolsFlag) Set(text string) error {
	var pool addressPool
	for _, field := range strings.Split(text, ",") {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "base":
			pool.Base, err = netip.ParsePrefix(value)
		case "size":
			pool.Size, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return err
		}
	}
	*p = append(*p, pool)
	return nil
}

func (p *poolsFlag) String() string {
	var out []string
	for _, pool := range *p {
		out = append(out, fmt.Sprintf("base=%s,size=%d", pool.Base, pool.Size))
	}
	return strings.Join(out, " ")
}

func (p *poolsFlag) Type() string { return "pool" }

// size is a number of bytes, or a text as "64M".
type size int64

func (s *size) Set(text string) error {
	n, err := units.RAMInBytes(text)
	*s = size(n)
	return err
}

func (s *size) String() string { return units.BytesSize(float64(*s)) }

func (s *size) Type() string { return "bytes" }

// UnmarshalJSON takes both forms, as Docker does.
func (s *size) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil {
		return s.Set(text)
	}
	return json.Unmarshal(b, (*int64)(s))
}
