package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"muelle/api"
	"muelle/internal/container/logopt"
)

// config is what flags and daemon.json say; the tags are Docker's keys. What becomes
// of each is told by the table options.
type config struct {
	DataRoot           string            `json:"data-root"`
	Graph              string            `json:"graph"` // data-root's old name
	ExecRoot           string            `json:"exec-root"`
	Pidfile            string            `json:"pidfile"`
	Hosts              []string          `json:"hosts"`
	Group              string            `json:"group"`
	RegistryMirrors    []string          `json:"registry-mirrors"`
	InsecureRegistries []string          `json:"insecure-registries"`
	Debug              bool              `json:"debug"`
	LogLevel           string            `json:"log-level"`
	LogFormat          string            `json:"log-format"`
	MetricsAddr        string            `json:"metrics-addr"`
	MinAPIVersion      string            `json:"min-api-version"`
	BIP                string            `json:"bip"`
	BIP6               string            `json:"bip6"`
	Bridge             string            `json:"bridge"`
	FixedCIDR          string            `json:"fixed-cidr"`
	FixedCIDRv6        string            `json:"fixed-cidr-v6"`
	DefaultGateway     netip.Addr        `json:"default-gateway"`
	DefaultGatewayV6   netip.Addr        `json:"default-gateway-v6"`
	IPv6               bool              `json:"ipv6"`
	MTU                int               `json:"mtu"`
	ICC                bool              `json:"icc"`
	Cooperation        bool              `json:"firewall-cooperation"`
	DefaultIP          netip.Addr        `json:"ip"`
	Masquerade         bool              `json:"ip-masq"`
	HostGateways       []netip.Addr      `json:"host-gateway-ips"`
	HostGateway        netip.Addr        `json:"host-gateway-ip"`
	NetworkOpts        networkOpts       `json:"default-network-opts"`
	AddressPools       []addressPool     `json:"default-address-pools"`
	DNS                []netip.Addr      `json:"dns"`
	DNSOptions         []string          `json:"dns-opts"`
	DNSSearch          []string          `json:"dns-search"`
	Labels             []string          `json:"labels"`
	LogDriver          string            `json:"log-driver"`
	LogOpts            map[string]string `json:"log-opts"`
	ShmSize            size              `json:"default-shm-size"`
	Ulimits            ulimits           `json:"default-ulimits"`
	IpcMode            string            `json:"default-ipc-mode"`
	CgroupnsMode       string            `json:"default-cgroupns-mode"`
	StopTimeout        int               `json:"default-stop-timeout"`
	CgroupParent       string            `json:"cgroup-parent"`
	RealtimePeriod     int               `json:"cpu-rt-period"`
	RealtimeRuntime    int               `json:"cpu-rt-runtime"`
	ExecOpts           []string          `json:"exec-opts"`
	CDISpecDirs        []string          `json:"cdi-spec-dirs"`
	Features           map[string]bool   `json:"features"`
	Init               bool              `json:"init"`
	LiveRestore        bool              `json:"live-restore"`
	DefaultRuntime     string            `json:"default-runtime"`
	Runtimes           runtimes          `json:"runtimes"`
	MaxDownloads       int               `json:"max-concurrent-downloads"`
	MaxUploads         int               `json:"max-concurrent-uploads"`
	MaxAttempts        int               `json:"max-download-attempts"`
	ShutdownTimeout    int               `json:"shutdown-timeout"`
	OOMScoreAdjust     int               `json:"oom-score-adjust"`
	Experimental       bool              `json:"experimental"`
	HTTPProxy          string            `json:"http-proxy"`
	HTTPSProxy         string            `json:"https-proxy"`
	NoProxy            string            `json:"no-proxy"`
	AllowInsecureTCP   bool              `json:"allow-insecure-tcp"`
	TLS                bool              `json:"tls"`
	TLSVerify          bool              `json:"tlsverify"`
	TLSCACert          string            `json:"tlscacert"`
	TLSCert            string            `json:"tlscert"`
	TLSKey             string            `json:"tlskey"`
	SeccompProfile     string            `json:"seccomp-profile"`
	AppArmorProfile    string            `json:"apparmor-profile"`
	NoNewPrivileges    bool              `json:"no-new-privileges"`
	SELinuxEnabled     bool              `json:"selinux-enabled"`
	UsernsRemap        string            `json:"userns-remap"`
	UsernsPool         string            `json:"userns-pool"`
	Builder            builder           `json:"builder"`

	file       string
	groupGiven bool
	// dataRootGiven: a flag or the file says where data-root is.
	dataRootGiven bool
	// tlsverifyGiven: the file says whether to verify.
	tlsverifyGiven bool
	showVersion    bool
	validate       bool
	// others are the options given that Muelle does nothing with.
	others []given
}

func (c *config) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("muelled", pflag.ContinueOnError)
	f.SortFlags = true
	c.register(f)
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
	c.groupGiven, c.dataRootGiven = f.Changed("group"), f.Changed("data-root")
	if err := c.readFile(f); err != nil {
		return nil, err
	}
	if c.Graph != "" {
		if c.dataRootGiven {
			return nil, errors.New(`cannot specify both "graph" and "data-root": they are the old and the new name of one option`)
		}
		c.DataRoot = c.Graph
	}
	// As Docker: to ask for verification or not is to ask for TLS, and TLS without a
	// word about it verifies.
	switch {
	case f.Changed("tlsverify") || c.TLSVerify:
		c.TLS = true
	case c.TLS && !c.tlsverifyGiven:
		c.TLSVerify = true
	}
	return c, c.check()
}

// check refuses what contradicts itself or is not supported.
func (c *config) check() error {
	switch {
	case c.MaxDownloads < 1 || c.MaxUploads < 1:
		return errors.New("max-concurrent-downloads and max-concurrent-uploads must be at least 1")
	case c.MaxAttempts < 1:
		return fmt.Errorf("max download attempts must be greater than zero: %d", c.MaxAttempts)
	case c.StopTimeout < 0:
		return fmt.Errorf("invalid default stop timeout: %d", c.StopTimeout)
	case !slices.Contains([]string{"text", "json"}, c.LogFormat):
		return fmt.Errorf("invalid log format: %s", c.LogFormat)
	case !slices.Contains([]string{"", "shareable", "private"}, c.IpcMode):
		return fmt.Errorf("IPC mode %q is not supported as default value", c.IpcMode)
	case !slices.Contains([]string{"", "host", "private"}, c.CgroupnsMode):
		return fmt.Errorf("default cgroup namespace mode (%s) is invalid; use \"host\" or \"private\"", c.CgroupnsMode)
	case c.OOMScoreAdjust < -1000 || c.OOMScoreAdjust > 1000:
		return fmt.Errorf("oom-score-adjust: %d is not between -1000 and 1000", c.OOMScoreAdjust)
	}
	if err := logopt.Validate(c.LogDriver, c.LogOpts); err != nil {
		return fmt.Errorf("failed to set log opts: %w", err)
	}
	if _, err := c.cgroupDriver(); err != nil {
		return err
	}
	if err := c.Builder.check(); err != nil {
		return err
	}
	if err := c.checkRuntimes(); err != nil {
		return err
	}
	if err := c.checkNetworks(); err != nil {
		return err
	}
	if err := c.checkHosts(); err != nil {
		return err
	}
	for _, l := range c.Labels {
		if key, _, ok := strings.Cut(l, "="); !ok || key == "" {
			return fmt.Errorf("bad attribute format: %s", l)
		}
	}
	if err := c.checkMinVersion(); err != nil {
		return err
	}
	if _, err := c.level(); err != nil {
		return err
	}
	return c.judge()
}

// checkMinVersion uses Docker's words.
func (c *config) checkMinVersion() error {
	v := c.MinAPIVersion
	if v == "" {
		return nil
	}
	if v[0] == 'v' || v[0] == 'V' {
		return errors.New(`API version must be provided without "v" prefix`)
	}
	minorOf := func(s string) int {
		_, minor, _ := strings.Cut(s, ".")
		n, err := strconv.Atoi(minor)
		if err != nil {
			return -1
		}
		return n
	}
	switch n := minorOf(v); {
	case !strings.HasPrefix(v, "1.") || n < minorOf(api.MinVersion):
		return fmt.Errorf("minimum supported API version is %s: %s", api.MinVersion, v)
	case n > minorOf(api.DefaultVersion):
		return fmt.Errorf("maximum supported API version is %s: %s", api.DefaultVersion, v)
	}
	return nil
}

// level is the lowest level that is logged.
func (c *config) level() (slog.Level, error) {
	if c.Debug {
		return slog.LevelDebug, nil
	}
	switch l := strings.ToLower(c.LogLevel); l {
	case "trace", "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error", "fatal", "panic":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("invalid logging level: %s", c.LogLevel)
}
