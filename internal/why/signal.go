package why

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/linux/kmsg"
	"muelle/internal/linux/seccomp"
)

func itoa(n uint16) string { return strconv.Itoa(int(n)) }

// outOfMemory tells of a run whose processes the kernel killed for their memory.
func (f *facts) outOfMemory() []api.WhyFinding {
	if !f.ended() || !f.last.OOMKilled && f.last.Counters["oom_kill"] == 0 {
		return nil
	}
	limit := f.e.HostConfig.Memory
	b := f.finding("oom", "The kernel killed it because it needed more memory than its limit of %s.", bytes(limit))
	if limit == 0 {
		b.f.What = "The kernel killed it because the memory ran out; the container itself has no limit."
	}
	if !f.last.OOMKilled || f.last.Signal == 0 { // its first process ended by itself
		b.f.What = strings.Replace(b.f.What, "killed it", "killed one of its processes", 1)
	}
	if n := f.last.Counters["oom_kill"]; n > 0 {
		b.because("cgroup", "oom_kill %d", n)
	}
	if f.last.OOMKilled {
		b.because("state", "OOMKilled, exit code %d", f.last.Code)
	}
	for _, l := range f.last.Kernel {
		if strings.Contains(l, "Killed process") {
			b.because("kernel log", "%s", l)
		}
	}
	if limit > 0 {
		b.do("Give it more: muelle update --memory %s --memory-swap %s %s, in Compose mem_limit: %s", bytes(2*limit), bytes(4*limit), f.e.Name, bytes(2*limit))
	} else {
		b.do("Free memory on the host, or bound the greediest containers (muelle stats) with --memory")
	}
	return b.do("Or make the program fit: see its own bounds (Java -XX:MaxRAMPercentage, Node --max-old-space-size, Go GOMEMLIMIT)").one()
}

func bytes(n int64) string {
	if n > 0 && n%(1<<20) == 0 {
		return strconv.FormatInt(n>>20, 10) + "m"
	}
	return strings.ToLower(units.CustomSize("%.4g%s", float64(n), 1024, []string{"b", "k", "m", "g", "t"}))
}

// killed tells which signal ended the process, and who sent it.
func (f *facts) killed() []api.WhyFinding {
	if !f.ended() || f.last.Error != "" || f.found("oom") {
		return nil
	}
	sig := f.last.Signal
	if sig == 0 && f.last.Code > 128 && f.last.Code < 128+65 {
		// A shell reports a child's end so; and some programs heed SIGTERM so.
		sig = syscall.Signal(f.last.Code - 128)
	}
	asked := f.last.Asked
	if by := lastAsked(asked); by != nil && (f.e.Stopped || by.Signal == sig || by.By == container.AskedByShutdown || by.By == container.AskedByHealth) {
		return f.askedFor(sig, by)
	}
	if sig == 0 {
		return nil
	}
	switch sig {
	case syscall.SIGSYS:
		return f.deniedCall()
	case syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT:
		return f.outside(sig)
	}
	b := f.finding("crashed", "The program crashed: %s.", crash(sig)).because("state", "%s", f.exitText())
	for _, l := range f.last.Kernel {
		b.because("kernel log", "%s", l)
	}
	return b.do("That is a fault of the program or of a library: see its log (muelle logs %s), and try another version of the image", f.e.Name).one()
}

func (f *facts) exitText() string {
	if f.last.Signal != 0 {
		return fmt.Sprintf("ended by %s (exit code %d)", unix.SignalName(f.last.Signal), f.last.Code)
	}
	return fmt.Sprintf("exit code %d", f.last.Code)
}

func crash(sig syscall.Signal) string {
	words := map[syscall.Signal]string{
		syscall.SIGSEGV: "it used memory that is not its own (SIGSEGV)", syscall.SIGBUS: "it used memory that is not there (SIGBUS)",
		syscall.SIGILL: "it came to an instruction that this processor does not know (SIGILL)", syscall.SIGFPE: "it divided by zero (SIGFPE)",
		syscall.SIGABRT: "it gave up (SIGABRT)", syscall.SIGTRAP: "it ran into a trap (SIGTRAP)",
	}
	if w := words[sig]; w != "" {
		return w
	}
	return "it ended by " + unix.SignalName(sig)
}

func lastAsked(asked []container.Asked) *container.Asked {
	if len(asked) == 0 {
		return nil
	}
	return &asked[len(asked)-1]
}

// askedFor tells of an end that somebody asked the engine for.
func (f *facts) askedFor(sig syscall.Signal, by *container.Asked) []api.WhyFinding {
	name := unix.SignalName(by.Signal)
	evidence := func(b *builder) []api.WhyFinding {
		for _, a := range f.last.Asked {
			b.because("engine", "%s sent at %s (%s)", unix.SignalName(a.Signal), stamp(a.At), a.By)
		}
		return b.because("state", "%s", f.exitText()).one()
	}
	switch by.By {
	case container.AskedByStop:
		b := f.finding("stopped", "It was stopped by a user (stop, restart or compose down): %s was sent, and it ended.", name)
		return evidence(b.do("muelle start %s", f.e.Name))
	case container.AskedByTimeout:
		b := f.stopTimeout()
		if n := len(f.last.Asked); n > 1 {
			switch f.last.Asked[n-2].By {
			case container.AskedByShutdown:
				b.f.Cause, b.f.What = "shutdown", "The engine stopped it because the engine itself was shut down. "+b.f.What
			case container.AskedByHealth:
				b.f.Cause, b.f.What = "stopped-unhealthy", endedForHealth+" "+b.f.What
				f.lastCheck(b)
			}
		}
		return evidence(b)
	case container.AskedByKill:
		b := f.finding("killed-by-user", "Somebody killed it through the engine: %s was sent (docker kill, or the API's call).", name)
		return evidence(b.do("muelle start %s", f.e.Name))
	case container.AskedByRemoval:
		return evidence(f.finding("removed", "It is being removed: %s was sent for that.", name))
	case container.AskedByShutdown:
		b := f.finding("shutdown", "The engine stopped it because the engine itself was shut down.")
		if f.e.HostConfig.RestartPolicy.IsNone() {
			b.do("To have it started again with the engine: muelle update --restart unless-stopped %s", f.e.Name)
		}
		return evidence(b)
	}
	b := f.finding("stopped-unhealthy", endedForHealth)
	f.lastCheck(b)
	return evidence(b)
}

const endedForHealth = "The engine ended it because it had become unhealthy, as --health-on-failure asks."

// lastCheck adds what the last health check said, and what follows from it.
func (f *facts) lastCheck(b *builder) {
	h := f.e.State.Health
	if h == nil || len(h.Log) == 0 {
		return
	}
	last := h.Log[len(h.Log)-1]
	b.because("health check", "exit code %d: %s", last.ExitCode, strings.TrimSpace(last.Output))
	f.healthAdvice(b, last)
}

// stopTimeout tells why a stop took its whole patience.
func (f *facts) stopTimeout() *builder {
	first := f.last.Asked[0]
	patience := f.last.Asked[len(f.last.Asked)-1].At.Sub(first.At).Seconds()
	b := f.finding("stop-timeout", "It was told to stop by %s, did not end within %.0f s, and was killed by SIGKILL (exit code 137).", unix.SignalName(first.Signal), patience)
	args := append([]string{f.e.Path}, f.e.Args...)
	if slices.Contains([]string{"sh", "bash", "ash", "dash"}, path.Base(f.e.Path)) && len(args) > 2 && args[1] == "-c" {
		b.because("image", "its first process is a shell: %s", strings.Join(args, " ")).
			do("A shell does not pass signals on: write CMD and ENTRYPOINT as a JSON list, or let the script exec its last command")
	} else {
		b.do("A first process gets no default action for signals: let the program handle %s, or start it with --init (in Compose init: true)", unix.SignalName(first.Signal))
	}
	return b.do("If it needs longer: --stop-timeout (in Compose stop_grace_period: 1m); if it heeds another signal: --stop-signal")
}

// outside tells of a signal that the engine did not send.
func (f *facts) outside(sig syscall.Signal) []api.WhyFinding {
	name := unix.SignalName(sig)
	for _, l := range f.last.Kernel {
		if sig == syscall.SIGKILL && strings.Contains(l, "Killed process") {
			return f.finding("oom-host", "The kernel killed it because the host ran out of memory.").because("kernel log", "%s", l).
				do("Free memory on the host, or bound the greediest containers (muelle stats) with --memory").one()
		}
	}
	b := f.finding("killed-outside", "It was ended by %s, which the engine did not send: a process on the host, or one inside the container, did.", name)
	if f.last.Signal == 0 {
		b = f.finding("killed-outside", "Its program ended with exit code %d, as a shell does after a child that %s ended, or a program that heeds it. The engine sent no signal.", f.last.Code, name).probably()
	}
	return b.because("state", "%s", f.exitText()).because("engine", "no signal was sent in that run").
		do("To see who: muelle events --filter container=%s, and the audit log of the host (auditctl -a always,exit -S kill)", f.e.Name).one()
}

var seccompLine = lazy(`\bsyscall=(\d+)`)

// deniedCall tells of a system call that a seccomp filter kills for.
func (f *facts) deniedCall() []api.WhyFinding {
	b := f.finding("denied-syscall", "It made a system call that its seccomp profile forbids, and was killed for it (SIGSYS).").because("state", "%s", f.exitText())
	lines := f.last.Kernel
	if len(lines) == 0 {
		// The audit's thread writes some time after the end.
		if now, err := kmsg.About(f.e.ID, f.last.Pid, f.last.StartedAt); err == nil {
			lines = now
		}
	}
	for _, l := range lines {
		b.because("kernel log", "%s", l)
		if m := seccompLine.FindStringSubmatch(l); m != nil {
			b.f.What = fmt.Sprintf("It made the system call %s, which its seccomp profile forbids, and was killed for it (SIGSYS).", callName(m[1]))
		}
	}
	return b.do("Allow the call in the profile: --security-opt seccomp=PROFILE.json").
		do("To try whether it is that: --security-opt seccomp=unconfined").one()
}

// callName gives the name of a system call's number, where it is known.
func callName(number string) string {
	n, err := strconv.ParseUint(number, 10, 32)
	if err == nil {
		if name := seccomp.Name(runtime.GOARCH, uint32(n)); name != "" {
			return name
		}
	}
	return "number " + number
}
