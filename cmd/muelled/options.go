package main

import (
	"net/netip"

	"github.com/spf13/pflag"

	"muelle/api"
	"muelle/internal/container"
)

const (
	noContainerd = "containerd's libraries are linked into muelled, and no other daemon is asked"
	noSwarm      = "there is no swarm mode"
)

// options is every flag of dockerd 20.10 to 29 and every key of its daemon.json, and
// those of Muelle. docs/drop-in.md has it as a table; a test holds the two together.
var options = []option{
	// Where things are.
	{flag: "data-root", key: "data-root", usage: "Root directory of persistent state", value: text(func(c *config) *string { return &c.DataRoot }, api.DefaultDataRoot)},
	{flag: "graph", short: "g", key: "graph", usage: "Old name of --data-root", value: text(func(c *config) *string { return &c.Graph }, "")},
	{flag: "exec-root", key: "exec-root", usage: "Root directory for execution state files", value: text(func(c *config) *string { return &c.ExecRoot }, api.DefaultExecRoot)},
	{flag: "pidfile", short: "p", key: "pidfile", usage: "Path to use for daemon PID file (default EXEC-ROOT/muelled.pid)", value: text(func(c *config) *string { return &c.Pidfile }, "")},
	{flag: "config-file", usage: "Daemon configuration file", value: text(func(c *config) *string { return &c.file }, api.DefaultConfigFile)},
	{flag: "validate", usage: "Validate daemon configuration and exit", value: boolean(func(c *config) *bool { return &c.validate }, false)},
	{flag: "version", short: "v", usage: "Print version information and quit", value: boolean(func(c *config) *bool { return &c.showVersion }, false)},

	// Who may ask.
	{flag: "host", short: "H", key: "hosts", usage: "Daemon socket(s) to listen on (default unix://EXEC-ROOT/muelle.sock)", value: list(func(c *config) *[]string { return &c.Hosts })},
	{flag: "group", short: "G", key: "group", usage: "Group for the unix socket", value: text(func(c *config) *string { return &c.Group }, "muelle")},
	{flag: "tls", key: "tls", usage: "Use TLS; implied by --tlsverify", value: boolean(func(c *config) *bool { return &c.TLS }, false)},
	{flag: "tlsverify", key: "tlsverify", usage: "Use TLS and verify the remote", value: boolean(func(c *config) *bool { return &c.TLSVerify }, false)},
	{flag: "tlscacert", key: "tlscacert", usage: "Trust certs signed only by this CA", value: text(func(c *config) *string { return &c.TLSCACert }, "")},
	{flag: "tlscert", key: "tlscert", usage: "Path to TLS certificate file", value: text(func(c *config) *string { return &c.TLSCert }, "")},
	{flag: "tlskey", key: "tlskey", usage: "Path to TLS key file", value: text(func(c *config) *string { return &c.TLSKey }, "")},
	{flag: "allow-insecure-tcp", key: "allow-insecure-tcp", class: ours, usage: "Allow tcp:// without mutual TLS: whoever reaches the port is root on this machine", value: boolean(func(c *config) *bool { return &c.AllowInsecureTCP }, false)},
	{flag: "api-cors-header", key: "api-cors-header", class: refused, why: "it would let web pages reach the engine; Docker removed it too", value: anything},
	{flag: "authorization-plugin", key: "authorization-plugins", class: refused, why: "there are no plugins; who may connect is decided by the socket's group and by TLS certificates", value: anything},
	{key: "min-api-version", usage: "Oldest API version that is served", value: text(func(c *config) *string { return &c.MinAPIVersion }, "")},

	// What is logged.
	{flag: "debug", short: "D", key: "debug", reload: true, usage: "Enable debug mode", value: boolean(func(c *config) *bool { return &c.Debug }, false)},
	{flag: "log-level", short: "l", key: "log-level", reload: true, usage: `Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")`, value: text(func(c *config) *string { return &c.LogLevel }, "info")},
	{flag: "log-format", key: "log-format", usage: `Set the logging format ("text"|"json")`, value: text(func(c *config) *string { return &c.LogFormat }, "text")},
	{flag: "raw-logs", key: "raw-logs", class: ignored, why: "the log has full timestamps and no colours anyway", value: anyBool},
	{flag: "metrics-addr", key: "metrics-addr", usage: "Address and port to serve metrics for Prometheus on", value: text(func(c *config) *string { return &c.MetricsAddr }, "")},

	// Registries.
	{flag: "registry-mirror", key: "registry-mirrors", reload: true, usage: "Preferred registry mirror", value: list(func(c *config) *[]string { return &c.RegistryMirrors })},
	{flag: "insecure-registry", key: "insecure-registries", reload: true, usage: "Enable insecure registry communication", value: list(func(c *config) *[]string { return &c.InsecureRegistries })},
	{flag: "max-concurrent-downloads", key: "max-concurrent-downloads", reload: true, usage: "Set the max concurrent downloads", value: number(func(c *config) *int { return &c.MaxDownloads }, 3)},
	{flag: "max-concurrent-uploads", key: "max-concurrent-uploads", reload: true, usage: "Set the max concurrent uploads", value: number(func(c *config) *int { return &c.MaxUploads }, 5)},
	{flag: "max-download-attempts", key: "max-download-attempts", reload: true, usage: "Set how often the download of a layer is tried while nothing of it arrives", value: number(func(c *config) *int { return &c.MaxAttempts }, 5)},
	{flag: "allow-nondistributable-artifacts", key: "allow-nondistributable-artifacts", class: ignored, why: "no image has such layers any more; Docker dropped it too", value: anything},
	{flag: "http-proxy", key: "http-proxy", usage: "HTTP proxy URL to use for outgoing traffic", value: text(func(c *config) *string { return &c.HTTPProxy }, "")},
	{flag: "https-proxy", key: "https-proxy", usage: "HTTPS proxy URL to use for outgoing traffic", value: text(func(c *config) *string { return &c.HTTPSProxy }, "")},
	{flag: "no-proxy", key: "no-proxy", usage: "Comma-separated list of hosts or IP addresses for which the proxy is skipped", value: text(func(c *config) *string { return &c.NoProxy }, "")},

	// The daemon itself.
	{flag: "label", key: "labels", reload: true, usage: "Set key=value labels to the daemon", value: list(func(c *config) *[]string { return &c.Labels })},
	{flag: "live-restore", key: "live-restore", reload: true, usage: "Keep containers running while the daemon is stopped", value: boolean(func(c *config) *bool { return &c.LiveRestore }, true)},
	{flag: "shutdown-timeout", key: "shutdown-timeout", reload: true, usage: "Set the default shutdown timeout in seconds", value: number(func(c *config) *int { return &c.ShutdownTimeout }, 15)},
	{flag: "oom-score-adjust", key: "oom-score-adjust", usage: "Set the oom_score_adj of the daemon", value: number(func(c *config) *int { return &c.OOMScoreAdjust }, 0)},
	{flag: "experimental", key: "experimental", usage: "Enable experimental features", value: boolean(func(c *config) *bool { return &c.Experimental }, false)},
	{flag: "feature", key: "features", reload: true, usage: "Switch a feature on or off: cdi; all others of Docker's are always on", value: features},
	{key: "builder", usage: "How much of the build cache is kept, and what builds may do", value: anything},
	{flag: "restart", short: "r", class: ignored, why: "containers have restart policies", value: anyBool},
	{key: "deprecated-key-path", class: ignored, why: "the engine's identity lies in data-root", value: anything},
	{flag: "rootless", key: "rootless", class: refused, fine: []string{"false"}, why: "muelled must be run as root", value: anyBool},
	{flag: "extension-dir", key: "extension-dirs", class: refused, why: "there are no extensions", value: anything},
	{key: "extension-config", class: refused, why: "there are no extensions", value: anything},
	{flag: "nri-opts", key: "nri-opts", class: refused, why: "the Node Resource Interface is not offered", value: anything},

	// Storage.
	{flag: "storage-driver", short: "s", key: "storage-driver", class: refused, fine: []string{"", "overlay2", "overlayfs"}, why: "layers are always mounted by overlayfs", value: anything},
	{flag: "storage-opt", key: "storage-opts", class: refused, fine: []string{"overlay2.override_kernel_check=true", "overlay2.override_kernel_check=false"}, why: "overlayfs takes no options here", value: anything},

	// What containers have unless they ask for something else.
	{flag: "log-driver", key: "log-driver", usage: "Default driver for container logs", value: text(func(c *config) *string { return &c.LogDriver }, "json-file")},
	{flag: "log-opt", key: "log-opts", usage: "Default log driver options for containers", value: texts(func(c *config) *map[string]string { return &c.LogOpts })},
	{flag: "default-shm-size", key: "default-shm-size", reload: true, usage: "Default shm size for containers", value: plain(func(c *config) pflag.Value { return &c.ShmSize })},
	{flag: "default-ulimit", key: "default-ulimits", usage: "Default ulimits for containers", value: plain(func(c *config) pflag.Value { return &c.Ulimits })},
	{flag: "default-ipc-mode", key: "default-ipc-mode", reload: true, usage: `Default mode for containers ipc ("shareable" | "private")`, value: text(func(c *config) *string { return &c.IpcMode }, "")},
	{flag: "default-cgroupns-mode", key: "default-cgroupns-mode", reload: true, usage: `Default mode for containers cgroup namespace ("host" | "private")`, value: text(func(c *config) *string { return &c.CgroupnsMode }, "")},
	{flag: "default-stop-timeout", key: "default-stop-timeout", reload: true, usage: "Set the default container stop timeout in seconds (0 to terminate immediately)", value: number(func(c *config) *int { return &c.StopTimeout }, 10)},
	{flag: "init", key: "init", usage: "Run an init in the container to forward signals and reap processes", value: boolean(func(c *config) *bool { return &c.Init }, false)},
	{flag: "init-path", key: "init-path", class: refused, fine: []string{""}, why: "the shim is the container's init; run another one as the container's command", value: anything},
	{key: "default-init", class: refused, fine: []string{"", "docker-init"}, why: "the shim is the container's init; run another one as the container's command", value: anything},
	{flag: "cgroup-parent", key: "cgroup-parent", usage: "Set parent cgroup for all containers", value: text(func(c *config) *string { return &c.CgroupParent }, "")},
	{flag: "exec-opt", key: "exec-opts", usage: "Runtime execution options (native.cgroupdriver=cgroupfs|systemd)", value: list(func(c *config) *[]string { return &c.ExecOpts })},
	{flag: "cpu-rt-period", key: "cpu-rt-period", usage: "Limit the CPU real-time period in microseconds for the parent cgroup for all containers", value: number(func(c *config) *int { return &c.RealtimePeriod }, 0)},
	{flag: "cpu-rt-runtime", key: "cpu-rt-runtime", usage: "Limit the CPU real-time runtime in microseconds for the parent cgroup for all containers", value: number(func(c *config) *int { return &c.RealtimeRuntime }, 0)},
	{flag: "default-runtime", key: "default-runtime", reload: true, usage: "Default OCI runtime for containers", value: text(func(c *config) *string { return &c.DefaultRuntime }, container.OwnRuntime)},
	{flag: "add-runtime", key: "runtimes", reload: true, usage: "Register an additional OCI compatible runtime (name=path)", value: plain(func(c *config) pflag.Value { return &c.Runtimes })},
	{flag: "cdi-spec-dir", key: "cdi-spec-dirs", usage: "CDI specification directories to use (default /etc/cdi, /var/run/cdi)", value: list(func(c *config) *[]string { return &c.CDISpecDirs })},

	// Security.
	{flag: "seccomp-profile", key: "seccomp-profile", usage: `Path to seccomp profile. Set to "unconfined" to disable the default seccomp profile`, value: text(func(c *config) *string { return &c.SeccompProfile }, "")},
	{flag: "apparmor-profile", key: "apparmor-profile", usage: `AppArmor profile of containers that name none (default docker-default). Set to "unconfined" for none`, value: text(func(c *config) *string { return &c.AppArmorProfile }, "")},
	{flag: "no-new-privileges", key: "no-new-privileges", usage: "Set no-new-privileges by default for new containers", value: boolean(func(c *config) *bool { return &c.NoNewPrivileges }, false)},
	{flag: "selinux-enabled", key: "selinux-enabled", usage: "Enable selinux support", value: boolean(func(c *config) *bool { return &c.SELinuxEnabled }, false)},
	{flag: "userns-remap", key: "userns-remap", usage: "User/Group setting for user namespaces", value: text(func(c *config) *string { return &c.UsernsRemap }, "")},
	{flag: "userns-pool", key: "userns-pool", class: ours, usage: "Ids for containers with --userns auto: FIRST:COUNT, or a user in /etc/subuid (default muelle or containers)", value: text(func(c *config) *string { return &c.UsernsPool }, "")},

	// Networks.
	{flag: "bip", key: "bip", usage: "IPv4 address for the default bridge, with its prefix length", value: text(func(c *config) *string { return &c.BIP }, "")},
	{flag: "bip6", key: "bip6", usage: "IPv6 address for the default bridge, with its prefix length", value: text(func(c *config) *string { return &c.BIP6 }, "")},
	{flag: "default-address-pool", key: "default-address-pools", usage: "Default address pools for node specific local networks (base=10.0.0.0/8,size=24)", value: plain(func(c *config) pflag.Value { return (*poolsFlag)(&c.AddressPools) })},
	{flag: "dns", key: "dns", usage: "DNS server to use", value: addresses(func(c *config) *[]netip.Addr { return &c.DNS })},
	{flag: "dns-opt", key: "dns-opts", usage: "DNS options to use", value: list(func(c *config) *[]string { return &c.DNSOptions })},
	{flag: "dns-search", key: "dns-search", usage: "DNS search domains to use", value: list(func(c *config) *[]string { return &c.DNSSearch })},
	{flag: "host-gateway-ip", key: "host-gateway-ips", usage: "IP addresses that the special string 'host-gateway' in --add-host resolves to (default the host's address on the container's network)", value: addresses(func(c *config) *[]netip.Addr { return &c.HostGateways })},
	{key: "host-gateway-ip", usage: "Old name of host-gateway-ips", value: address(func(c *config) *netip.Addr { return &c.HostGateway })},
	{flag: "bridge", short: "b", key: "bridge", usage: "Attach containers to a network bridge of the host, or to none", value: text(func(c *config) *string { return &c.Bridge }, "")},
	{flag: "fixed-cidr", key: "fixed-cidr", usage: "IPv4 subnet for fixed IPs on the default bridge", value: text(func(c *config) *string { return &c.FixedCIDR }, "")},
	{flag: "fixed-cidr-v6", key: "fixed-cidr-v6", usage: "IPv6 subnet for fixed IPs on the default bridge", value: text(func(c *config) *string { return &c.FixedCIDRv6 }, "")},
	{flag: "default-gateway", key: "default-gateway", usage: "Default gateway IPv4 address of containers on the default bridge", value: address(func(c *config) *netip.Addr { return &c.DefaultGateway })},
	{flag: "default-gateway-v6", key: "default-gateway-v6", usage: "Default gateway IPv6 address of containers on the default bridge", value: address(func(c *config) *netip.Addr { return &c.DefaultGatewayV6 })},
	{flag: "ipv6", key: "ipv6", usage: "Enable IPv6 on the default bridge", value: boolean(func(c *config) *bool { return &c.IPv6 }, false)},
	{flag: "mtu", key: "mtu", usage: "Set the MTU of the default bridge (default that of the default route)", value: number(func(c *config) *int { return &c.MTU }, 0)},
	{flag: "icc", key: "icc", usage: "Enable communication between containers on the default bridge", value: boolean(func(c *config) *bool { return &c.ICC }, true)},
	{flag: "ip", key: "ip", usage: "Host IPv4 address for ports published from the default bridge (default 0.0.0.0)", value: address(func(c *config) *netip.Addr { return &c.DefaultIP })},
	{flag: "ip-masq", key: "ip-masq", usage: "Enable IP masquerading on the default bridge", value: boolean(func(c *config) *bool { return &c.Masquerade }, true)},
	{flag: "ip-forward", key: "ip-forward", class: refused, fine: []string{"true"}, why: "forwarding is switched on with the first bridge network, off again with the last, and what concerns no container is not forwarded", value: anyBool},
	{flag: "ip-forward-no-drop", key: "ip-forward-no-drop", class: refused, fine: []string{"false"}, why: "where Muelle switched forwarding on, what concerns no container is dropped", value: anyBool},
	{flag: "iptables", key: "iptables", class: refused, fine: []string{"true"}, why: "published ports and the separation of networks are rules; Muelle keeps them in nftables tables of its own", value: anyBool},
	{flag: "ip6tables", key: "ip6tables", class: ignored, why: "the same nftables tables serve both families", value: anyBool},
	{flag: "firewall-cooperation", key: "firewall-cooperation", class: ours, usage: "Ask other firewalls for passage the way they offer it (DOCKER-USER, a zone of firewalld); otherwise what they drop is only told", value: boolean(func(c *config) *bool { return &c.Cooperation }, true)},
	{flag: "firewall-backend", key: "firewall-backend", class: ignored, why: "rules are written by nftables, which needs no program", value: anything},
	{flag: "userland-proxy", key: "userland-proxy", class: ignored, why: "ports are published without a process per port, on the loopback address too", value: anyBool},
	{flag: "userland-proxy-path", key: "userland-proxy-path", class: ignored, why: "ports are published without a process per port", value: anything},
	{flag: "allow-direct-routing", key: "allow-direct-routing", class: refused, fine: []string{"false"}, why: "containers are reached from elsewhere by their published ports only", value: anyBool},
	{flag: "bridge-accept-fwmark", key: "bridge-accept-fwmark", class: refused, fine: []string{""}, why: "packets are not accepted by their mark", value: anything},
	{flag: "default-network-opt", key: "default-network-opts", usage: "Default network options (DRIVER=OPTION=VALUE)", value: plain(func(c *config) pflag.Value { return &c.NetworkOpts })},
	{flag: "network-control-plane-mtu", key: "network-control-plane-mtu", class: ignored, why: noSwarm, value: anything},
	{flag: "network-diagnostic-port", key: "network-diagnostic-port", class: refused, fine: []string{"0"}, why: "there is no diagnostic server", value: anything},
	{key: "resolv-conf", class: refused, fine: []string{"", "/etc/resolv.conf"}, why: "the host's /etc/resolv.conf is read", value: anything},

	// Other daemons and other machines.
	{flag: "containerd", key: "containerd", class: ignored, why: noContainerd, value: anything},
	{flag: "containerd-namespace", key: "containerd-namespace", class: ignored, why: noContainerd, value: anything},
	{flag: "containerd-plugins-namespace", key: "containerd-plugin-namespace", class: ignored, why: noContainerd, value: anything},
	{flag: "cri-containerd", key: "cri-containerd", class: refused, fine: []string{"false"}, why: noContainerd, value: anyBool},
	{flag: "swarm-default-advertise-addr", key: "swarm-default-advertise-addr", class: ignored, why: noSwarm, value: anything},
	{key: "swarm-raft-heartbeat-tick", class: ignored, why: noSwarm, value: anything},
	{key: "swarm-raft-election-tick", class: ignored, why: noSwarm, value: anything},
	{flag: "node-generic-resource", key: "node-generic-resources", class: ignored, why: noSwarm, value: anything},
	{flag: "cluster-store", key: "cluster-store", class: refused, why: noSwarm + "; Docker removed it too", value: anything},
	{flag: "cluster-store-opt", key: "cluster-store-opts", class: refused, why: noSwarm + "; Docker removed it too", value: anything},
	{flag: "cluster-advertise", key: "cluster-advertise", class: refused, why: noSwarm + "; Docker removed it too", value: anything},
}
