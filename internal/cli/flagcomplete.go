package cli

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"muelle/client"
	"muelle/internal/console"
)

const noFiles, noSpace = cobra.ShellCompDirectiveNoFileComp, cobra.ShellCompDirectiveNoSpace

// completing tells whether a shell asks for words, and which command it stands at.
func completing(args []string) (command string, yes bool) {
	if len(args) < 1 || args[0] != cobra.ShellCompRequestCmd && args[0] != cobra.ShellCompNoDescRequestCmd {
		return "", false
	}
	// The last word is the one being typed, and no command yet.
	return firstCommand(args[1:max(1, len(args)-1)]), true
}

// fixed are the values of flags that do not depend on the engine, by flag, or by
// COMMAND/FLAG where one flag means two things.
var fixed = map[string][]string{
	"pull":                  {"always", "missing", "never"},
	"restart":               {"no", "on-failure", "always", "unless-stopped"},
	"security-opt":          {"apparmor=", "label=", "no-new-privileges", "seccomp=", "systempaths=unconfined"},
	"ulimit":                {"as=", "chroot=", "core=", "cpu=", "data=", "fsize=", "locks=", "maxlogins=", "maxsyslogins=", "memlock=", "msgqueue=", "nice=", "nofile=", "nproc=", "priority=", "rss=", "rtprio=", "sigpending=", "stack="},
	"platform":              {"linux/386", "linux/amd64", "linux/arm", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/arm64/v8", "linux/ppc64le", "linux/riscv64", "linux/s390x"},
	"storage-opt":           {"size="},
	"userns":                {"host", "auto"},
	"uts":                   {"host"},
	"cgroupns":              {"host", "private"},
	"isolation":             {"default"},
	"attach":                {"stderr", "stdin", "stdout"},
	"health-on-failure":     {"none", "kill", "restart", "stop"},
	"log-opt":               {"max-size=", "max-file=", "compress=", "labels=", "env=", "tag=", "mode=", "syslog-address=", "syslog-format=", "syslog-facility="},
	"log-level":             {"debug", "info", "warn", "error", "fatal"},
	"format":                {"json", "table"},
	"inspect/type":          {"container", "image", "network", "volume"},
	"events/filter":         {"container=", "daemon=", "event=", "image=", "label=", "network=", "scope=", "type=", "volume="},
	"ps/filter":             {"ancestor=", "before=", "exited=", "expose=", "health=", "id=", "label=", "name=", "network=", "publish=", "since=", "status=", "volume="},
	"images/filter":         {"before=", "dangling=", "label=", "reference=", "since=", "until="},
	"network ls/filter":     {"dangling=", "driver=", "id=", "label=", "name=", "scope=", "type="},
	"volume ls/filter":      {"dangling=", "driver=", "label=", "name="},
	"network create/driver": {"bridge"},
	"volume create/driver":  {"local"},
}

// completeFlags gives the flags of a command, and of those below it, the words that
// their values can have.
func (a *app) completeFlags(c *cobra.Command, path string) {
	for _, sub := range c.Commands() {
		a.completeFlags(sub, strings.TrimSpace(path+" "+sub.Name()))
	}
	for name, f := range map[string]cobra.CompletionFunc{
		"network": a.networkFlag, "interface": a.networkFlag, "volumes-from": a.containerFlag(""), "link": a.containerFlag(":"), "ipc": a.namespaceFlag("host", "none", "private", "shareable"),
		"pid": a.namespaceFlag("host"), "runtime": a.infoFlag(false), "log-driver": a.infoFlag(true), "env": environment, "context": a.contextFlag,
		"cap-add": capabilityFlag, "cap-drop": capabilityFlag, "signal": signals, "stop-signal": signals,
	} {
		if c.Flags().Lookup(name) != nil {
			_ = c.RegisterFlagCompletionFunc(name, f) // it fails only where it was done before
		}
	}
	short := strings.TrimPrefix(strings.TrimPrefix(path, "container "), "image ")
	for key, words := range fixed {
		name := key
		if command, flag, ok := strings.Cut(key, "/"); ok {
			if name = flag; command != path && command != short && (command != "ps" || path != "container ls") && (command != "images" || path != "image ls") {
				continue
			}
		}
		if f := c.Flags().Lookup(name); f == nil || f.Value.Type() == "bool" {
			continue
		}
		how := noFiles
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasSuffix(w, "=") }) {
			how |= noSpace
		}
		_ = c.RegisterFlagCompletionFunc(name, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { return words, how })
	}
}

// asking calls f with a client of the engine; nothing where that does not answer.
func (a *app) asking(f func(c *client.Client) []string) ([]string, cobra.ShellCompDirective) {
	e, err := console.Find(a.where)
	if err != nil {
		return nil, noFiles
	}
	c, err := e.Client()
	if err != nil {
		return nil, noFiles
	}
	defer func() { _ = c.Close() }()
	return f(c), noFiles
}

func (a *app) networkFlag(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.asking(func(c *client.Client) []string { return a.names(cmd, c, "NETWORK") })
}

// containerFlag gives the names of containers, with something after them.
func (a *app) containerFlag(after string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		names, how := a.asking(func(c *client.Client) []string { return a.names(cmd, c, "CONTAINER") })
		for i := range names {
			names[i] += after
		}
		if after != "" {
			how |= noSpace
		}
		return names, how
	}
}

// namespaceFlag gives the modes of a namespace, and containers once somebody has begun
// with that.
func (a *app) namespaceFlag(modes ...string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		if !strings.HasPrefix(typed, "container:") {
			return append([]string{"container:"}, modes...), noFiles | noSpace
		}
		names, how := a.asking(func(c *client.Client) []string { return a.names(cmd, c, "CONTAINER") })
		for i := range names {
			names[i] = "container:" + names[i]
		}
		return names, how
	}
}

// infoFlag gives what the engine says that it has: runtimes, or log drivers.
func (a *app) infoFlag(logs bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.asking(func(c *client.Client) (out []string) {
			info, err := c.System.Info(cmd.Context())
			if err != nil {
				return nil
			}
			if logs {
				return info.Plugins.Log
			}
			for name := range info.Runtimes {
				out = append(out, name)
			}
			return out
		})
	}
}

func (a *app) contextFlag(*cobra.Command, []string, string) (out []string, how cobra.ShellCompDirective) {
	all, _ := a.where.Contexts().List()
	for _, x := range all {
		out = append(out, x.Name)
	}
	return out, noFiles
}

// environment gives the names of this shell's variables.
func environment(*cobra.Command, []string, string) (out []string, how cobra.ShellCompDirective) {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		out = append(out, name)
	}
	slices.Sort(out)
	return out, noFiles
}

// capabilityNames are the kernel's, from bit 0 on.
const capabilityNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER " +
	"SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE " +
	"MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"

// capabilityFlag gives the names with CAP_ before them, unless somebody begins without.
func capabilityFlag(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	out := []string{"ALL"}
	for name := range strings.FieldsSeq(capabilityNames) {
		if typed == "" || strings.HasPrefix("CAP_", strings.ToUpper(typed)) || strings.HasPrefix(strings.ToUpper(typed), "CAP_") {
			name = "CAP_" + name
		}
		out = append(out, name)
	}
	return out, noFiles
}

func signals(_ *cobra.Command, _ []string, typed string) (out []string, how cobra.ShellCompDirective) {
	const lastPlain, firstRealTime, lastRealTime = 31, 34, 64
	for n := unix.Signal(1); n <= lastPlain; n++ {
		if name := unix.SignalName(n); name != "" {
			out = append(out, strings.TrimPrefix(name, "SIG"))
		}
	}
	out = append(out, "RTMIN", "RTMAX")
	for n := 1; n <= (lastRealTime-firstRealTime)/2; n++ {
		out = append(out, "RTMIN+"+strconv.Itoa(n))
		if n < (lastRealTime-firstRealTime)/2 {
			out = append(out, "RTMAX-"+strconv.Itoa(n))
		}
	}
	if strings.HasPrefix(typed, "SIG") {
		for i := range out {
			out[i] = "SIG" + out[i]
		}
	}
	return out, noFiles
}

// fits says whether a command has to do with a container in its state.
func fits(cmd *cobra.Command, s container.ContainerState) bool {
	running := s == container.StateRunning || s == container.StateRestarting
	switch cmd.Name() {
	case "attach", "exec", "kill", "pause", "stop", "top":
		return running
	case "unpause":
		return s == container.StatePaused
	case "start":
		return s == container.StateExited || s == container.StateCreated
	case "rm":
		force := cmd.Flags().Lookup("force")
		return !running && s != container.StatePaused || force != nil && force.Changed
	}
	return true
}

// partOf names the program of ours that has a command.
func partOf(command string) string {
	switch command {
	case "compose":
		return "muelle-compose"
	case "build", "bake", "builder":
		return "muelle-build"
	}
	return ""
}

// completeIn passes a shell's question on to the program that has the command.
func completeIn(args []string, command string) []string {
	i := slices.Index(args, command)
	if command == "compose" {
		return append(slices.Clone(args[:i]), args[i+1:]...)
	}
	return args
}
