//go:build root

package e2e

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"
)

func TestRunExitStatus(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		parent := t.Name()
		for _, tt := range []struct {
			name string
			args []string
			code int
			err  string // part of standard error
		}{
			{"success", []string{"busybox", "true"}, 0, ""},
			{"the program's own", []string{"busybox", "sh", "-c", "exit 42"}, 42, ""},
			{"killed by a signal", []string{"--init", "busybox", "sh", "-c", "kill -9 $$"}, 137, ""},
			{"missing program", []string{"busybox", "nope"}, 127, `exec: "nope": executable file not found in $PATH`},
			{"missing path", []string{"busybox", "/nope"}, 127, "/nope"},
			{"not executable", []string{"busybox", "/etc/passwd"}, 126, "permission denied"},
			{"a folder", []string{"busybox", "/etc"}, 126, ""},
			{"bad image name", []string{"Busybox", "true"}, 125, "invalid reference format"},
			{"missing image", []string{"muelle.invalid/none:none", "true"}, 125, "muelle.invalid"},
			{"bad flag value", []string{"--memory", "lots", "busybox", "true"}, 125, "lots"},
			{"memory below the minimum", []string{"--memory", "1k", "busybox", "true"}, 125, "Minimum memory limit allowed is 6MB"},
			{"network that does not exist", []string{"--network", "nowhere", "busybox", "true"}, 125, "network nowhere not found"},
			{"bind of a missing folder", []string{"--mount", "type=bind,src=/does/not/exist,dst=/x", "busybox", "true"}, 125, "/does/not/exist"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				r := c.try(t, append([]string{"run", "--rm", "-l", "test=" + parent}, tt.args...)...)
				if r.code != tt.code || !strings.Contains(r.err, tt.err) {
					t.Errorf("exit status %d, want %d\nstderr: %s\nwant in it: %s", r.code, tt.code, r.err, tt.err)
				}
			})
		}
		if left := c.must(t, "ps", "-aq", "--filter", "label=test="+t.Name()); left != "" {
			t.Errorf("containers left: %s", left)
		}
	})
}

//muelle:ring
func TestRunStreams(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		r := c.try(t, "run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
		if r.out != "out\n" || r.err != "err\n" || r.code != 3 {
			t.Errorf("%+v", r)
		}
		r = c.pipe(t, []byte("one\ntwo\n"), "run", "--rm", "-i", "busybox", "sort", "-r")
		if r.out != "two\none\n" || r.code != 0 {
			t.Errorf("%+v", r)
		}
		// Standard input that is not asked for is not read.
		r = c.pipe(t, []byte("ignored"), "run", "--rm", "busybox", "cat")
		if r.out != "" || r.code != 0 {
			t.Errorf("%+v", r)
		}
	})
}

func TestRunPipesEveryByte(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		in := make([]byte, 100<<20)
		rand.Read(in)
		r := c.pipe(t, in, "run", "--rm", "-i", "--log-driver", "none", "busybox", "cat")
		if r.code != 0 || !bytes.Equal(in, []byte(r.out)) {
			t.Errorf("exit status %d, %d bytes of %d came back: %s", r.code, len(r.out), len(in), r.err)
		}
	})
}

func TestRunFlags(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		for _, tt := range []struct {
			name string
			args []string
			want string
		}{
			{"environment", []string{"-e", "A=1", "-e", "B=two words", "busybox", "sh", "-c", "echo $A $B"}, "1 two words"},
			{"user", []string{"-u", "1000:2000", "busybox", "sh", "-c", "id -u; id -g"}, "1000\n2000"},
			{"working folder is made", []string{"-w", "/a/b", "busybox", "pwd"}, "/a/b"},
			{"hostname", []string{"-h", "box", "busybox", "hostname"}, "box"},
			{"read-only", []string{"--read-only", "busybox", "sh", "-c", "touch /x 2>&1 || echo refused"}, "touch: /x: Read-only file system\nrefused"},
			{"tmpfs", []string{"--read-only", "--tmpfs", "/scratch", "busybox", "sh", "-c", "echo a >/scratch/f && cat /scratch/f"}, "a"},
			{"entrypoint", []string{"--entrypoint", "echo", "busybox", "hi"}, "hi"},
			{"memory limit", []string{"-m", "64m", "busybox", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"}, "67108864"},
			{"cpu limit", []string{"--cpus", "1.5", "busybox", "sh", "-c", "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cut -d' ' -f1 /sys/fs/cgroup/cpu.max"}, "150000"},
			{"pids limit", []string{"--pids-limit", "33", "busybox", "sh", "-c", "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"}, "33"},
			{"ulimit", []string{"--ulimit", "nofile=77:88", "busybox", "sh", "-c", "ulimit -n"}, "77"},
			{"no new privileges", []string{"--security-opt", "no-new-privileges", "busybox", "grep", "NoNewPrivs", "/proc/self/status"}, "NoNewPrivs:\t1"},
			{"seccomp is on", []string{"busybox", "grep", "Seccomp:", "/proc/self/status"}, "Seccomp:\t2"},
			{"capabilities dropped", []string{"--cap-drop", "ALL", "busybox", "grep", "CapEff", "/proc/self/status"}, "CapEff:\t0000000000000000"},
			{"pid 1", []string{"busybox", "sh", "-c", "echo $$"}, "1"},
			{"masked paths", []string{"busybox", "sh", "-c", "wc -c </proc/interrupts; ls /sys/firmware | wc -l"}, "0\n0"},
			{"sysctl", []string{"--sysctl", "net.ipv4.ip_default_ttl=77", "busybox", "cat", "/proc/sys/net/ipv4/ip_default_ttl"}, "77"},
			{"shm size", []string{"--shm-size", "8m", "busybox", "sh", "-c", "df -k /dev/shm | awk 'NR==2{print $2}'"}, "8192"},
			{"extra host", []string{"--add-host", "db:10.1.2.3", "busybox", "grep", "-w", "db", "/etc/hosts"}, "10.1.2.3\tdb"},
			{"init", []string{"--init", "busybox", "sh", "-c", "echo $$ | grep -v '^1$' >/dev/null && echo not first"}, "not first"},
		} {
			t.Run(tt.name, func(t *testing.T) {
				if got := c.must(t, append([]string{"run", "--rm"}, tt.args...)...); got != tt.want {
					t.Errorf("%q, want %q", got, tt.want)
				}
			})
		}
	})
}

//muelle:ring
func TestFullPidsLimit(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		name := c.unique(t, "c")
		c.remove(t, name)
		c.must(t, "run", "-d", "--name", name, "--pids-limit", "2", "busybox", "sh", "-c", "sleep 1000 & wait")
		r := c.try(t, "exec", name, "true")
		if r.code == 0 || !strings.Contains(r.err+r.out, "esource temporarily unavailable") && !strings.Contains(r.err+r.out, "pids limit") {
			t.Errorf("exec beyond the limit: %+v", r)
		}
		if got := c.must(t, "inspect", "-f", "{{.State.Running}}", name); got != "true" {
			t.Errorf("the container runs: %s", got)
		}
	})
}

//muelle:ring
func TestTerminal(t *testing.T) {
	forEach(t, func(t *testing.T, c client) {
		// script(1) gives the client a terminal.
		script := client{"script", "/usr/bin/script", c.daemon}
		out := script.must(t, "-qec", c.path+" run --rm -it -e A=b busybox sh -c 'tty; stty size; echo $TERM'", "/dev/null")
		if !strings.Contains(out, "/dev/pts/0") || !strings.Contains(out, "xterm") {
			t.Errorf("%q", out)
		}
		r := c.pipe(t, []byte{}, "run", "--rm", "-it", "busybox", "true")
		if r.code == 0 || !strings.Contains(r.err, "the input device is not a TTY") {
			t.Errorf("-t without a terminal: %+v", r)
		}
	})
}
