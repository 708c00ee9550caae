package why

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	ctypes "github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/why/program"
)

// failed says that the last run ended by itself with a failure, or that the container
// runs and is not well: then its log is worth reading.
func (f *facts) failed() bool {
	if f.ended() {
		return f.last.Error == "" && f.last.Code != 0
	}
	h := f.e.State.Health
	return f.e.State.Running && h != nil && h.Status == ctypes.Unhealthy
}

// lineOf finds the last line of the log that matches.
func (f *facts) lineOf(re *pattern) (line string, match []string) {
	for _, l := range slices.Backward(f.logs) {
		if m := re.FindStringSubmatch(l); m != nil {
			return l, m
		}
	}
	return "", nil
}

var (
	missingLibrary = lazy(`(\S+): error while loading shared libraries: (\S+): cannot open|Error loading shared library ([^:]+): No such file or directory \(needed by ([^)]+)\)`)
	wrongLibc      = lazy("version [`']([^']+)' not found \\(required by ([^)]+)\\)|Error relocating (\\S+): \\S+: symbol not found")
	notFound       = lazy(`(?:^|: )([^\s:]+): (?:command )?not found`)
	notRun         = lazy(`(?:^|: )([^\s:]+): (Permission denied|Exec format error|cannot execute\S*.*)$`)
)

// commandNotRun explains exit codes 126 and 127 of a run that began: a shell or the
// loader gives them.
func (f *facts) commandNotRun() []api.WhyFinding {
	if !f.ended() || f.last.Error != "" || f.last.Signal != 0 || f.last.Code != 126 && f.last.Code != 127 && f.last.Code != 1 {
		return nil
	}
	if line, m := f.lineOf(missingLibrary); m != nil {
		lib, by := m[2], m[1]
		if lib == "" {
			lib, by = m[3], m[4]
		}
		b := f.finding("missing-library", "%s needs the library %s, which is not in the image.", by, lib).because("log", "%s", line)
		if r := f.examine(by); r != nil {
			for _, l := range r.Libraries {
				b.because("image", "%s needs %s (DT_NEEDED), and no folder of the loader has it", l.NeededBy, l.Name)
			}
		}
		return b.do("Install the package that has %s in the Dockerfile's last stage, or link the program statically", lib).one()
	}
	if line, m := f.lineOf(wrongLibc); m != nil {
		return f.finding("wrong-libc", "The program was built against another C library than the image has.").because("log", "%s", line).
			do("Build it in the image that it runs in, or one with the same release").one()
	}
	if f.last.Code == 127 {
		if line, m := f.lineOf(notFound); m != nil {
			b := f.finding("missing-program", "A script in the container calls %s, which is not there.", m[1]).because("log", "%s", line)
			if r := f.examine(m[1]); r != nil && r.Kind != program.Missing {
				if better := f.program(r, m[1]); better != nil {
					return better.because("log", "%s", line).one()
				}
				b.probably()
			}
			return b.because("state", "exit code 127").do("Install %s in the Dockerfile, or mend the script's PATH", m[1]).one()
		}
	}
	if f.last.Code == 126 {
		if line, m := f.lineOf(notRun); m != nil {
			if r := f.examine(m[1]); r != nil {
				if b := f.program(r, m[1]); b != nil {
					return b.because("log", "%s", line).one()
				}
			}
			return f.finding("not-executable", "A script in the container could not run %s: %s.", m[1], m[2]).because("log", "%s", line).
				because("state", "exit code 126").do("See its permissions: muelle run --rm --entrypoint ls %s -l %s", f.e.Config.Image, m[1]).one()
		}
	}
	return nil
}

// exited tells of an end without a failure, and of failures that nothing else
// explains.
func (f *facts) exited() []api.WhyFinding {
	if !f.ended() || f.last.Error != "" || len(f.told) > 0 {
		return nil
	}
	if f.last.Code != 0 {
		b := f.finding("failed", "Its program ended by itself with exit code %d.", f.last.Code).because("state", "exit code %d", f.last.Code)
		for _, l := range f.logs[max(0, len(f.logs)-3):] {
			b.because("log", "%s", l)
		}
		if f.last.Code == 125 || f.last.Code == 126 || f.last.Code == 127 {
			b.because("engine", "the program was started: the code is its own")
		}
		if len(f.logs) == 0 {
			return b.because("log", "it printed nothing").one()
		}
		return b.do("Its log says more: muelle logs %s", f.e.Name).one()
	}
	b := f.finding("finished", "Its program ended by itself, with success. A container ends with its first process.").because("state", "exit code 0 after %s", lasted(*f.last))
	shells := []string{"sh", "bash", "ash", "dash", "zsh", "python", "python3", "node", "irb"}
	if slices.Contains(shells, path.Base(f.e.Path)) && len(f.e.Args) == 0 && !f.e.Config.OpenStdin {
		b.f.What = fmt.Sprintf("Its program, %s, read the end of its input at once and ended: nothing was connected to it.", f.e.Path)
		b.because("state", "no -i and no -t").do("muelle run -it %s", f.e.Config.Image)
	} else {
		b.do("For a service, the program must stay in the foreground (nginx -g 'daemon off;', no & at the end of the line)")
	}
	return b.one()
}

// lasted says how long a run took.
func lasted(e container.Ending) string {
	d := e.At.Sub(e.StartedAt)
	if d < time.Second {
		return "less than a second"
	}
	return d.Round(time.Second).String()
}

// cause is what two endings have in common, as people would compare them.
func cause(e container.Ending) string {
	switch {
	case e.Error != "":
		return "it could not be started"
	case e.OOMKilled:
		return "out of memory"
	case e.Signal != 0:
		return fmt.Sprintf("signal %d", e.Signal)
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// crashLoop tells of a container that is started again and again.
func (f *facts) crashLoop() []api.WhyFinding {
	if f.e.RestartCount < 2 || len(f.e.Endings) < 2 {
		return nil
	}
	ends := f.e.Endings
	same := true
	for _, e := range ends {
		same = same && cause(e) == cause(ends[0])
	}
	b := f.finding("crash-loop", "It was restarted %d times.", f.e.RestartCount)
	if same {
		b.f.What = fmt.Sprintf("It was restarted %d times; the last %d runs ended the same way: %s.", f.e.RestartCount, len(ends), cause(ends[0]))
	}
	for _, e := range ends {
		if e.StartedAt.IsZero() {
			b.because("state", "%s: %s", stamp(e.At), cause(e))
			continue
		}
		b.because("state", "%s: %s after %s", stamp(e.At), cause(e), lasted(e))
	}
	policy := f.e.HostConfig.RestartPolicy
	return b.because("configuration", "restart policy %s", policy.Name).
		do("To look at it in peace: muelle update --restart no %s", f.e.Name).one()
}

// waiting tells of the time between two runs.
func (f *facts) waiting() []api.WhyFinding {
	if f.e.RestartAt.IsZero() {
		return nil
	}
	return f.finding("back-off", "It waits for its next start, at %s: after each run that fails soon, the wait doubles, up to a minute.", stamp(f.e.RestartAt)).
		because("state", "restarting").do("To start it at once: muelle restart %s", f.e.Name).one()
}

// unhealthy tells since when the health check fails and what it says.
func (f *facts) unhealthy() []api.WhyFinding {
	h := f.e.State.Health
	if h == nil || !f.e.State.Running || h.Status != ctypes.Unhealthy && h.FailingStreak == 0 || len(h.Log) == 0 {
		return nil
	}
	last := h.Log[len(h.Log)-1]
	since := f.e.FailingSince
	if h.FailingStreak == 0 || since.IsZero() { // in the start period, or from an earlier version
		since = last.Start
	}
	word := "Its health check fails"
	if h.Status == ctypes.Unhealthy {
		word = "It is unhealthy: its health check fails"
	}
	b := f.finding("unhealthy", "%s since %s, %d times in a row.", word, stamp(since), h.FailingStreak).
		because("health check", "exit code %d: %s", last.ExitCode, strings.TrimSpace(last.Output))
	f.healthAdvice(b, last)
	return b.one()
}

var healthTools = lazy(`\b(curl|wget|nc|pg_isready|grpc_health_probe)\b`)

func (f *facts) healthAdvice(b *builder, last *ctypes.HealthcheckResult) {
	var test []string
	if h := f.e.Config.Healthcheck; h != nil {
		test = h.Test
	}
	tool := healthTools.FindString(strings.Join(test, " "))
	missing := strings.Contains(last.Output, "not found") || strings.Contains(last.Output, "no such file") || last.ExitCode == 127
	switch {
	case strings.HasPrefix(last.Output, "Health check exceeded timeout"):
		b.do("Give it more time: --health-timeout, or a longer --health-start-period for a slow start")
	case missing && tool != "":
		b.because("configuration", "the check runs %s", strings.Join(test, " ")).
			do("%s is not in the image. Let the engine ask, which needs nothing in it: --health-http :PORT/PATH (or --health-tcp PORT, --health-grpc PORT)", tool).
			do("In Compose: x-health: {http: \":PORT/PATH\"} in the place of healthcheck")
	case missing && len(test) > 0 && test[0] == "CMD-SHELL":
		b.because("configuration", "the check runs %s", strings.Join(test, " ")).
			do("What the check calls, or the shell itself, is not in the image: --health-http, --health-tcp and --health-grpc need nothing in it")
	case strings.Contains(last.Output, "nothing listens on port"):
		b.do("The program does not listen on that port (yet): compare the check's port with the program's, see muelle logs %s", f.e.Name)
	default:
		b.do("See what the program says: muelle logs --since 10m %s", f.e.Name)
	}
}

// pidsExhausted tells of forks that the control group refused.
func (f *facts) pidsExhausted() []api.WhyFinding {
	if !f.ended() || f.last.Counters["pids_max"] == 0 {
		return nil
	}
	limit := "its limit"
	if p := f.e.HostConfig.PidsLimit; p != nil {
		limit = fmt.Sprintf("its limit of %d", *p)
	}
	return f.finding("pids-exhausted", "It could not start further processes or threads: %s was reached.", limit).
		because("cgroup", "pids.events: max %d", f.last.Counters["pids_max"]).
		do("muelle update --pids-limit %d %s, in Compose pids_limit", 2*limitOf(f.e.HostConfig), f.e.Name).
		do("If processes pile up because nobody waits for them: --init (in Compose init: true)").one()
}

func limitOf(h *ctypes.HostConfig) int64 {
	if h.PidsLimit == nil {
		return 1024
	}
	return *h.PidsLimit
}
