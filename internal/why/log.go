package why

import (
	"os"
	"slices"
	"strings"
	"syscall"

	ctypes "github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"muelle/api"
)

var (
	readOnly  = lazy(`(?i)read-only file system|EROFS`)
	noAccess  = lazy(`(?i)permission denied|EACCES`)
	notYours  = lazy(`(?i)operation not permitted|EPERM`)
	noSpace   = lazy(`(?i)no space left on device|ENOSPC|disk quota exceeded`)
	noProcess = lazy(`(?i)resource temporarily unavailable|can't fork|cannot fork|unable to create (?:native )?thread|pthread_create failed`)
	noName    = lazy(`(?i)(?:could not resolve host:?|no such host|name or service not known|temporary failure in name resolution|bad address|getaddrinfo (?:ENOTFOUND|EAI_AGAIN)|getaddrinfo for |failed to resolve|unknown \w+ server host|nodename nor servname|UnknownHostException)`)
	inUse     = lazy(`(?i)address (?:already )?in use|EADDRINUSE`)
	noRoute   = lazy(`(?i)connection timed out|ETIMEDOUT|i/o timeout|no route to host|EHOSTUNREACH|network is unreachable|ENETUNREACH`)
	refused   = lazy(`(?i)connection refused|ECONNREFUSED`)
	isFolder  = lazy(`(?i)is a directory|EISDIR`)
	noFile    = lazy(`(?i)no such file or directory|ENOENT`)
	onePath   = lazy(`(?:^|[\s'"(:=\x60‘])(/[^\s'":,;)\x60’]+)`)
)

// fromLog recognises in the last lines what the kernel refused. A line in a log is
// indirect: what it says is checked against the mounts and their owners where that
// can be done.
func (f *facts) fromLog() []api.WhyFinding {
	if !f.failed() || len(f.told) > 0 {
		return nil
	}
	for _, c := range []struct {
		re  *pattern
		say func(line string) *builder
	}{
		{readOnly, f.readOnly}, {noAccess, f.noAccess}, {notYours, f.notPermitted}, {noSpace, f.noSpace},
		{noProcess, f.noProcess}, {noName, f.noName}, {inUse, f.inUse}, {refused, f.refused}, {noRoute, f.noAnswer},
		{isFolder, f.isFolder}, {noFile, f.noFile},
	} {
		if line, m := f.lineOf(c.re); m != nil {
			if b := c.say(line); b != nil {
				return b.because("log", "%s", line).one()
			}
		}
	}
	return nil
}

// pathIn gives the first path in a line that is not the program's own.
func (f *facts) pathIn(line string) string {
	for _, m := range onePath.FindAllStringSubmatch(line, 8) {
		if p := strings.TrimRight(m[1], ".:"); p != f.e.Path && p != "/" {
			return p
		}
	}
	return ""
}

// mountOf gives the mount that a path lies in; nil: the container's own file system.
func (f *facts) mountOf(p string) *ctypes.MountPoint {
	var best *ctypes.MountPoint
	for i, m := range f.e.Mounts {
		if within(p, m.Destination) && (best == nil || len(m.Destination) > len(best.Destination)) {
			best = &f.e.Mounts[i]
		}
	}
	return best
}

func (f *facts) readOnly(line string) *builder {
	p := f.pathIn(line)
	if m := f.mountOf(p); p != "" && m != nil {
		if m.RW {
			return f.finding("read-only", "It could not write to %s: the file system mounted there (%s) is read-only.", p, source(*m)).probably().
				do("See how the host mounts it: findmnt -T %s", m.Source)
		}
		return f.finding("read-only", "It could not write to %s: %s is mounted read-only.", p, m.Destination).
			because("mounts", "%s at %s, read-only", source(*m), m.Destination).
			do("Mount it writable: without :ro (in Compose read_only: false)")
	}
	if !f.e.HostConfig.ReadonlyRootfs {
		return nil
	}
	b := f.finding("read-only", "It could not write to %s: the container's file system is read-only (--read-only).", orWord(p, "a file")).
		because("configuration", "ReadonlyRootfs is true")
	if p == "" {
		return b.probably().do("Give it a writable place: --tmpfs FOLDER, or a volume")
	}
	dir := p[:strings.LastIndexByte(p, '/')]
	if dir == "" {
		return b.do("Let it write into a folder, and make that writable: --tmpfs /tmp, or a volume: -v NAME:/data")
	}
	return b.do("Give it a writable place: --tmpfs %s, or a volume: -v NAME:%s", dir, dir)
}

func orWord(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// noAccess compares the owner of what was refused with the user of the process.
func (f *facts) noAccess(line string) *builder {
	// To root, files are open; what is denied to it is denied by capabilities.
	if f.e.UID == 0 && slices.ContainsFunc(privileged, func(p privilege) bool { return p.re.MatchString(line) }) {
		return f.notPermitted(line)
	}
	p := f.pathIn(line)
	if p == "" {
		return nil
	}
	st, at := f.ownerOf(p)
	if st == nil || f.e.UID <= 0 || int(st.Uid) == f.e.UID {
		return f.finding("no-access", "It was refused access to %s.", p).probably().
			do("See owner and permissions: muelle exec %s ls -ln %s", f.e.Name, p)
	}
	whose := "which"
	if at != p {
		whose = at + " above it"
	}
	b := f.finding("wrong-owner", "It runs as user %d and was refused access to %s: %s belongs to user %d.", f.e.UID, p, strings.Replace(whose, "which", "that", 1), st.Uid).
		because("files", "%s: owner %d:%d, mode %#o", at, st.Uid, st.Gid, st.Mode&0o7777).because("configuration", "the process is user %d:%d", f.e.UID, f.e.GID)
	if m := f.mountOf(p); m != nil {
		if m.Source != "" && m.Name == "" {
			return b.do("On the host: chown -R %d:%d %s", f.e.UID, f.e.GID, m.Source)
		}
		return b.do("Give the volume to that user: muelle run --rm -u 0 -v %s:/v busybox chown -R %d:%d /v", m.Name, f.e.UID, f.e.GID)
	}
	return b.do("In the Dockerfile: COPY --chown=%d:%d …, or RUN chown before USER", f.e.UID, f.e.GID)
}

// ownerOf gives who owns a path of the container, or the nearest folder above it that
// is there.
func (f *facts) ownerOf(p string) (*syscall.Stat_t, string) {
	// A stopped container's mounts are not in its root: look at their source. Links
	// inside it are not followed.
	var base *os.File
	rest := p
	if m := f.mountOf(p); m != nil && f.e.State.Pid == 0 {
		src, err := os.OpenFile(m.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, ""
		}
		defer src.Close()
		base, rest = src, strings.TrimPrefix(p, strings.TrimSuffix(m.Destination, "/"))
	} else {
		base = f.rootDir()
	}
	if base == nil {
		return nil, ""
	}
	for shown := p; ; {
		name := strings.TrimPrefix(rest, "/")
		if name == "" {
			name = "."
		}
		fd, err := unix.Openat2(int(base.Fd()), name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
		if err == nil {
			file := os.NewFile(uintptr(fd), name)
			defer file.Close()
			info, err := file.Stat()
			if err != nil {
				return nil, ""
			}
			st, _ := info.Sys().(*syscall.Stat_t)
			return st, shown
		}
		if name == "." {
			return nil, ""
		}
		rest = rest[:max(0, strings.LastIndexByte(rest, '/'))]
		shown = orWord(shown[:max(0, strings.LastIndexByte(shown, '/'))], "/")
	}
}

type privilege struct {
	re           *pattern
	what, remedy string
}

// privileged are words of programs that need more than the default capabilities, with
// the capability or the option that gives it.
var privileged = []privilege{
	{lazy(`(?i)\b(u?mount|pivot_root|fsmount)\b`), "mounting file systems", "--cap-add SYS_ADMIN, which gives away much of the host; better a mount by the engine: -v or --mount"},
	{lazy(`(?i)\b(unshare|clone3?|setns|user ?namespaces?|bwrap|bubblewrap)\b`), "making namespaces", "--security-opt seccomp=PROFILE.json that allows it, or --cap-add SYS_ADMIN"},
	{lazy(`(?i)\b(ptrace|strace|gdb)\b`), "tracing processes", "--cap-add SYS_PTRACE"},
	{lazy(`(?i)\b(iptables|nft|ip link|ip addr|ip route|RTNETLINK|tun|tap)\b`), "changing the network", "--cap-add NET_ADMIN (and --device /dev/net/tun for tunnels)"},
	{lazy(`(?i)\b(settimeofday|clock_settime|adjtimex|date: cannot set|ntpd?|chrony)`), "setting the clock", "--cap-add SYS_TIME; the clock is the host's"},
	{lazy(`(?i)\b(keyctl|add_key|request_key)\b`), "using kernel keyrings", "--security-opt seccomp=PROFILE.json that allows it"},
	{lazy(`(?i)\b(io_uring\w*)\b`), "io_uring", "--security-opt seccomp=PROFILE.json that allows it"},
	{lazy(`(?i)\b(perf_event_open|perf)\b|\bbpf\b`), "performance counters or BPF", "--cap-add PERFMON or --cap-add BPF, and a seccomp profile that allows it"},
	{lazy(`(?i)\b(insmod|modprobe|init_module)\b`), "loading kernel modules", "load the module on the host"},
	{lazy(`(?i)\b(mlock|mlockall)\b`), "locking memory", "--ulimit memlock=-1:-1 or --cap-add IPC_LOCK"},
	{lazy(`(?i)\b(setpriority|nice|sched_setscheduler|SCHED_FIFO)\b`), "scheduling with priority", "--cap-add SYS_NICE"},
	{lazy(`(?i)\b(sethostname|hostname)\b`), "setting the host name", "--hostname NAME"},
	{lazy(`(?i)\b(chown|chgrp)\b`), "changing owners", "--cap-add CHOWN"},
	{lazy(`(?i)\bmknod\b`), "making devices", "--cap-add MKNOD, or --device"},
}

// notPermitted tells of a call that capabilities or seccomp deny. Neither leaves a
// trace in the kernel's log: it is never certain.
func (f *facts) notPermitted(line string) *builder {
	if f.e.HostConfig.Privileged {
		return nil
	}
	for _, p := range privileged {
		if !p.re.MatchString(line) {
			continue
		}
		b := f.finding("denied-syscall", "The kernel denied it %s, which containers may not do by default.", p.what).probably()
		if len(f.e.HostConfig.CapDrop) > 0 {
			b.because("configuration", "capabilities dropped: %s", strings.Join(f.e.HostConfig.CapDrop, " "))
		}
		if seccompOf(f.e.HostConfig) != "unconfined" {
			b.because("configuration", "seccomp profile: %s", seccompOf(f.e.HostConfig))
		}
		return b.do("%s", p.remedy)
	}
	return f.finding("not-permitted", "The kernel denied it an operation, by a missing capability or by the seccomp profile.").probably().
		do("To find out which: --security-opt seccomp=unconfined, then --cap-add one after the other")
}

func seccompOf(h *ctypes.HostConfig) string {
	for _, o := range h.SecurityOpt {
		if v, ok := strings.CutPrefix(o, "seccomp="); ok {
			if strings.HasPrefix(v, "{") {
				return "its own"
			}
			return v
		}
	}
	return "the default one"
}

func (f *facts) noProcess(string) *builder {
	p := f.e.HostConfig.PidsLimit
	if p == nil || f.last != nil && f.last.Counters["pids_max"] > 0 {
		return nil // the counter tells it better
	}
	return f.finding("pids-exhausted", "It could not start further processes or threads, within its limit of %d.", *p).probably().
		do("muelle update --pids-limit %d %s", 2**p, f.e.Name)
}

var resolved = lazy(`(?i)(?:could not resolve host:? |lookup |getaddrinfo (?:ENOTFOUND|EAI_AGAIN) |getaddrinfo for |bad address '|failed to resolve '|host name "|server host '|UnknownHostException: |error -\d connecting to )([a-z0-9._-]+)`)

// nameOf gives the name that could not be resolved: of the line, or of another one
// that says it, as Node prints it below.
func (f *facts) nameOf(line string) string {
	if m := resolved.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	if m := server.FindStringSubmatch(line); m != nil {
		return m[1]
	}
	for _, l := range slices.Backward(f.logs) {
		if m := resolved.FindStringSubmatch(l); m != nil {
			return m[1]
		}
	}
	return ""
}

func (f *facts) noName(line string) *builder {
	name := f.nameOf(line)
	if mode := f.e.HostConfig.NetworkMode; mode.IsNone() {
		return f.finding("unresolved-name", "It could not resolve %s: it has no network.", orWord(name, "a name")).
			because("configuration", "the container has no network (--network none)")
	}
	if name == "" {
		return f.unresolved("a name")
	}
	if p := f.peer(name); p != nil {
		tried := "It could not resolve " + name
		if b := f.apart("unresolved-name", tried, name, p); b != nil {
			return f.asked(b, name)
		}
		if shared := f.shared(p); len(shared) == 1 && shared[0] == "bridge" {
			return f.unresolved(name)
		}
		if at, later := f.later(p); later {
			return f.asked(f.finding("unresolved-name", "%s: %s was not there yet.", tried, p.called(name)).
				because("state", "%s started at %s, after this container had ended", p.name, stamp(at)).
				do("Wait for it, in Compose: depends_on: {%s: {condition: service_healthy}}", orWord(p.service, p.name)).
				do("muelle restart %s", f.e.Name), name)
		}
		return f.asked(f.unresolved(name), name)
	}
	b := f.unresolved(name)
	if f.peers != nil && !strings.Contains(name, ".") {
		b.because("names", "no container is called %s", name)
	}
	return f.asked(b, name)
}

func (f *facts) unresolved(name string) *builder {
	b := f.finding("unresolved-name", "It could not resolve %s.", name).probably()
	if f.e.HostConfig.NetworkMode.IsBridge() {
		b.because("configuration", "the container is on the default bridge, where containers have no names").
			do("Put both on a network of their own: muelle network create NET, then --network NET")
	}
	return b.do("A name of another container is known on a network that both share: muelle network inspect, muelle dns log %s", f.e.Name)
}

// asked adds what the engine's resolver answered last, in the run that ended or since.
func (f *facts) asked(b *builder, name string) *builder {
	if f.queries == nil {
		return b
	}
	for _, q := range slices.Backward(f.queries(f.e.ID)) {
		if f.last != nil && q.At.Before(f.last.StartedAt) {
			break
		}
		if q.Name == strings.ToLower(name) && q.Failed() {
			return b.because("resolver", "%s, %s %s: %s %s", stamp(q.At), q.Name, q.Type, q.Code, q.Reason)
		}
	}
	return b
}

func (f *facts) inUse(line string) *builder {
	b := f.finding("port-taken-inside", "Its program could not listen: the address is in use inside the container's network.").probably()
	if f.e.HostConfig.NetworkMode.IsHost() {
		return b.because("configuration", "the network is the host's").do("Another program of the host listens there: ss -ltnp")
	}
	if f.e.HostConfig.NetworkMode.IsContainer() {
		return b.because("configuration", "the network is shared with another container").do("One of both must listen on another port")
	}
	return b.do("Two programs in the container listen on the same port, or one is started twice")
}
