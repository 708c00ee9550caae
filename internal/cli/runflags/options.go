// Package runflags is the flags of run and create: their definitions, and their
// translation into Docker's container, host and network configuration. It reads the
// files that flags name (env files, label files, seccomp profiles) and talks to
// nobody.
package runflags

import (
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/pflag"
)

// Options hold the flags' values.
type Options struct {
	// Image and Args are the command line's arguments.
	Image string
	Args  []string

	AutoRemove bool
	CIDFile    string
	Tty, Stdin bool
	Attach     List

	volumes, tmpfs, links, aliases, linkLocalIPs        List
	env, envFile, labels, labelFile                     List
	deviceCgroupRules, devices                          List
	publish, expose, dns, dnsSearch, dnsOptions         List
	extraHosts, volumesFrom, capAdd, capDrop, groupAdd  List
	securityOpt, storageOpt, logOpt                     List
	sysctls, annotations                                Map
	mounts                                              mounts
	networks                                            networks
	gpus                                                gpus
	ulimits                                             ulimits
	weightDevices                                       weightDevices
	readBps, writeBps, readIOps, writeIOps              Throttles
	memory, memoryReservation, memorySwap, shmSize      Bytes
	ioMaxBandwidth, kernelMemory                        Bytes
	cpus                                                CPUs
	privileged, publishAll, readOnly, init              bool
	oomKillDisable, noHealthcheck, useAPISocket         bool
	pid, uts, userns, cgroupns, ipc, isolation, runtime string
	entrypoint, hostname, domainname, user, workdir     string
	cpusetCpus, cpusetMems, cgroupParent                string
	macAddress, ip, ip6, restart, logDriver             string
	volumeDriver, stopSignal, healthCmd                 string
	healthHTTP, healthTCP, healthGRPC, healthOnFailure  string
	oomScoreAdj, stopTimeout, healthRetries             int
	healthInterval, healthTimeout                       time.Duration
	healthStartPeriod, healthStartInterval              time.Duration
	cpuShares, cpuPeriod, cpuQuota                      int64
	cpuRealtimePeriod, cpuRealtimeRuntime               int64
	cpuCount, cpuPercent, swappiness, pidsLimit         int64
	blkioWeight                                         uint16
	ioMaxIOps                                           uint64

	changed func(string) bool
}

// Register defines the flags and returns where their values go.
func Register(f *pflag.FlagSet) *Options {
	o := &Options{changed: f.Changed}
	o.general(f)
	o.security(f)
	o.network(f)
	o.storage(f)
	o.health(f)
	o.resources(f)
	return o
}

func list(f *pflag.FlagSet, l *List, name, short, usage string, check func(string) (string, error)) {
	l.Check = check
	f.VarP(l, name, short, usage)
}

func (o *Options) general(f *pflag.FlagSet) {
	list(f, &o.Attach, "attach", "a", "Attach to STDIN, STDOUT or STDERR", checkStream)
	list(f, &o.env, "env", "e", "Set environment variables", checkEnv)
	list(f, &o.envFile, "env-file", "", "Read in a file of environment variables", nil)
	f.StringVar(&o.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	list(f, &o.groupAdd, "group-add", "", "Add additional groups to join", nil)
	f.StringVarP(&o.hostname, "hostname", "h", "", "Container host name")
	f.StringVar(&o.domainname, "domainname", "", "Container NIS domain name")
	f.BoolVarP(&o.Stdin, "interactive", "i", false, "Keep STDIN open even if not attached")
	list(f, &o.labels, "label", "l", "Set meta data on a container", checkLabel)
	list(f, &o.labelFile, "label-file", "", "Read in a line delimited file of labels", nil)
	f.BoolVar(&o.readOnly, "read-only", false, "Mount the container's root filesystem as read only")
	f.StringVar(&o.restart, "restart", string(container.RestartPolicyDisabled), "Restart policy to apply when a container exits")
	f.StringVar(&o.stopSignal, "stop-signal", "", "Signal to stop the container")
	f.IntVar(&o.stopTimeout, "stop-timeout", 0, "Timeout (in seconds) to stop a container")
	o.sysctls.Check = checkSysctl
	f.Var(&o.sysctls, "sysctl", "Sysctl options")
	f.BoolVarP(&o.Tty, "tty", "t", false, "Allocate a pseudo-TTY")
	f.Var(&o.ulimits, "ulimit", "Ulimit options")
	f.StringVarP(&o.user, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	f.BoolVar(&o.AutoRemove, "rm", false, "Automatically remove the container and its associated anonymous volumes when it exits")
	f.StringVar(&o.CIDFile, "cidfile", "", "Write the container ID to the file")
	f.Var(&o.annotations, "annotation", "Add an annotation to the container (passed through to the OCI runtime)")
	f.BoolVar(&o.useAPISocket, "use-api-socket", false, "Bind mount Docker API socket and required auth")
}

func (o *Options) security(f *pflag.FlagSet) {
	list(f, &o.capAdd, "cap-add", "", "Add Linux capabilities", nil)
	list(f, &o.capDrop, "cap-drop", "", "Drop Linux capabilities", nil)
	f.BoolVar(&o.privileged, "privileged", false, "Give extended privileges to this container")
	list(f, &o.securityOpt, "security-opt", "", "Security Options", nil)
	f.StringVar(&o.userns, "userns", "", "User namespace to use")
	f.StringVar(&o.cgroupns, "cgroupns", "", `Cgroup namespace to use (host|private)
'host':    Run the container in the Docker host's cgroup namespace
'private': Run the container in its own private cgroup namespace
'':        Use the cgroup namespace as configured by the
           default-cgroupns-mode option on the daemon (default)`)
	f.StringVar(&o.ipc, "ipc", "", "IPC mode to use")
	f.StringVar(&o.isolation, "isolation", "", "Container isolation technology")
	f.StringVar(&o.pid, "pid", "", "PID namespace to use")
	f.StringVar(&o.uts, "uts", "", "UTS namespace to use")
	f.StringVar(&o.runtime, "runtime", "", "Runtime to use for this container")
	f.BoolVar(&o.init, "init", false, "Run an init inside the container that forwards signals and reaps processes")
}

func (o *Options) network(f *pflag.FlagSet) {
	list(f, &o.extraHosts, "add-host", "", "Add a custom host-to-IP mapping (host:ip)", checkExtraHost)
	list(f, &o.dns, "dns", "", "Set custom DNS servers", checkIP)
	list(f, &o.dnsOptions, "dns-option", "", "Set DNS options", nil)
	list(f, &o.dnsOptions, "dns-opt", "", "Set DNS options", nil)
	list(f, &o.dnsSearch, "dns-search", "", "Set custom DNS search domains", checkDomain)
	list(f, &o.expose, "expose", "", "Expose a port or a range of ports", nil)
	f.StringVar(&o.ip, "ip", "", "IPv4 address (e.g., 172.30.100.104)")
	f.StringVar(&o.ip6, "ip6", "", "IPv6 address (e.g., 2001:db8::33)")
	list(f, &o.links, "link", "", "Add link to another container", checkLink)
	list(f, &o.linkLocalIPs, "link-local-ip", "", "Container IPv4/IPv6 link-local addresses", nil)
	f.StringVar(&o.macAddress, "mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)")
	list(f, &o.publish, "publish", "p", "Publish a container's port(s) to the host", nil)
	f.BoolVarP(&o.publishAll, "publish-all", "P", false, "Publish all exposed ports to random ports")
	f.Var(&o.networks, "network", "Connect a container to a network")
	f.Var(&o.networks, "net", "Connect a container to a network")
	list(f, &o.aliases, "network-alias", "", "Add network-scoped alias for the container", nil)
	list(f, &o.aliases, "net-alias", "", "Add network-scoped alias for the container", nil)
	for _, old := range []string{"dns-opt", "net", "net-alias"} {
		f.Lookup(old).Hidden = true
	}
}

func (o *Options) storage(f *pflag.FlagSet) {
	f.StringVar(&o.logDriver, "log-driver", "", "Logging driver for the container")
	f.StringVar(&o.volumeDriver, "volume-driver", "", "Optional volume driver for the container")
	list(f, &o.logOpt, "log-opt", "", "Log driver options", nil)
	list(f, &o.storageOpt, "storage-opt", "", "Storage driver options for the container", nil)
	list(f, &o.tmpfs, "tmpfs", "", "Mount a tmpfs directory", nil)
	list(f, &o.volumesFrom, "volumes-from", "", "Mount volumes from the specified container(s)", nil)
	list(f, &o.volumes, "volume", "v", "Bind mount a volume", nil)
	f.Var(&o.mounts, "mount", "Attach a filesystem mount to the container")
	list(f, &o.deviceCgroupRules, "device-cgroup-rule", "", "Add a rule to the cgroup allowed devices list", checkDeviceRule)
	list(f, &o.devices, "device", "", "Add a host device to the container", nil)
	f.Var(&o.gpus, "gpus", "GPU devices to add to the container ('all' to pass all GPUs)")
}

func (o *Options) health(f *pflag.FlagSet) {
	f.StringVar(&o.healthCmd, "health-cmd", "", "Command to run to check health")
	f.DurationVar(&o.healthInterval, "health-interval", 0, "Time between running the check (ms|s|m|h) (default 0s)")
	f.IntVar(&o.healthRetries, "health-retries", 0, "Consecutive failures needed to report unhealthy")
	f.DurationVar(&o.healthTimeout, "health-timeout", 0, "Maximum time to allow one check to run (ms|s|m|h) (default 0s)")
	f.DurationVar(&o.healthStartPeriod, "health-start-period", 0, "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)")
	f.DurationVar(&o.healthStartInterval, "health-start-interval", 0, "Time between running the check during the start period (ms|s|m|h) (default 0s)")
	f.StringVar(&o.healthHTTP, "health-http", "", "Health check by the engine: [http[s]://][ADDRESS][:PORT][/PATH][,status=200-299][,body=TEXT][,match=REGEXP][,header=NAME: VALUE][,host=NAME]")
	f.StringVar(&o.healthTCP, "health-tcp", "", "Health check by the engine: [ADDRESS:]PORT that accepts a connection")
	f.StringVar(&o.healthGRPC, "health-grpc", "", "Health check by the engine: [ADDRESS:]PORT[/SERVICE][,tls=true] that offers grpc.health.v1")
	f.StringVar(&o.healthOnFailure, "health-on-failure", "", "Action once the container turns unhealthy (none|kill|restart|stop)")
	f.BoolVar(&o.noHealthcheck, "no-healthcheck", false, "Disable any container-specified HEALTHCHECK")
}

func (o *Options) resources(f *pflag.FlagSet) {
	f.Uint16Var(&o.blkioWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)")
	f.Var(&o.weightDevices, "blkio-weight-device", "Block IO weight (relative device weight)")
	f.StringVar(&o.cpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	f.StringVar(&o.cpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	f.Int64Var(&o.cpuCount, "cpu-count", 0, "CPU count (Windows only)")
	f.Int64Var(&o.cpuPercent, "cpu-percent", 0, "CPU percent (Windows only)")
	f.Int64Var(&o.cpuPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	f.Int64Var(&o.cpuQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	f.Int64Var(&o.cpuRealtimePeriod, "cpu-rt-period", 0, "Limit CPU real-time period in microseconds")
	f.Int64Var(&o.cpuRealtimeRuntime, "cpu-rt-runtime", 0, "Limit CPU real-time runtime in microseconds")
	f.Int64VarP(&o.cpuShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	f.Var(&o.cpus, "cpus", "Number of CPUs")
	o.writeIOps.PerSecond, o.readIOps.PerSecond = true, true
	f.Var(&o.readBps, "device-read-bps", "Limit read rate (bytes per second) from a device")
	f.Var(&o.readIOps, "device-read-iops", "Limit read rate (IO per second) from a device")
	f.Var(&o.writeBps, "device-write-bps", "Limit write rate (bytes per second) to a device")
	f.Var(&o.writeIOps, "device-write-iops", "Limit write rate (IO per second) to a device")
	f.Var(&o.ioMaxBandwidth, "io-maxbandwidth", "Maximum IO bandwidth limit for the system drive (Windows only)")
	f.Uint64Var(&o.ioMaxIOps, "io-maxiops", 0, "Maximum IOps limit for the system drive (Windows only)")
	f.Var(&o.kernelMemory, "kernel-memory", "Kernel memory limit")
	f.VarP(&o.memory, "memory", "m", "Memory limit")
	f.Var(&o.memoryReservation, "memory-reservation", "Memory soft limit")
	o.memorySwap.Unlimited = true
	f.Var(&o.memorySwap, "memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	f.Int64Var(&o.swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100)")
	f.BoolVar(&o.oomKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	f.IntVar(&o.oomScoreAdj, "oom-score-adj", 0, "Tune host's OOM preferences (-1000 to 1000)")
	f.Int64Var(&o.pidsLimit, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
	f.StringVar(&o.cgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
	f.Var(&o.shmSize, "shm-size", "Size of /dev/shm")
	for _, hidden := range []string{"kernel-memory", "cpu-count", "cpu-percent", "io-maxbandwidth", "io-maxiops"} {
		f.Lookup(hidden).Hidden = true
	}
}
