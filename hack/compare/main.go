// Command compare types the same command lines at Debian's Docker and at Muelle, at
// the latter with Docker's client and with its own, and prints where what they say
// differs: standard output, standard error and exit status, with names, ids, times and
// addresses made alike. Differences that are meant stand with their reason in
// commands.txt; any other, and any that is no more, is a failure. Each daemon runs in
// network and mount namespaces of its own.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	bin := flag.String("bin", "bin", "folder with Muelle's binaries")
	file := flag.String("commands", "hack/compare/commands.txt", "what to type")
	only := flag.Int("line", 0, "print everything about this line")
	verbose := flag.Bool("v", false, "print all differences, also those that are meant")
	flag.Parse()
	failed, err := run(*bin, *file, *only, *verbose)
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// command is one line to type, and why its outcome may differ.
type command struct {
	line           int
	text           string
	engine, client string // reasons, or empty
}

func read(path string) ([]command, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []command
	n := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		n++
		text := strings.TrimSpace(s.Text())
		reason, isReason := strings.CutPrefix(text, "#! ")
		switch {
		case isReason && len(list) > 0:
			last := &list[len(list)-1]
			kind, why, _ := strings.Cut(reason, ": ")
			switch kind {
			case "engine":
				last.engine = why
			case "client":
				last.client = why
			default:
				return nil, fmt.Errorf("%s:%d: a reason starts with engine: or client:", path, n)
			}
		case text == "" || strings.HasPrefix(text, "#"):
		default:
			list = append(list, command{line: n, text: text})
		}
	}
	return list, nil
}

// side is a client and the daemon that it talks to.
type side struct {
	name   string
	client string
	api    string   // version of the API that the client is held to, or empty
	daemon []string // %s is the side's folder
	out    []string // per command, normalized
}

func run(bin, file string, only int, verbose bool) (failed int, err error) {
	commands, err := read(file)
	if err != nil {
		return 0, err
	}
	if bin, err = filepath.Abs(bin); err != nil {
		return 0, err
	}
	docker, err := exec.LookPath("docker")
	if err != nil {
		return 0, errors.New("the docker client is not on the PATH")
	}
	muelled := []string{bin + "/muelled", "--data-root", "%s/data", "--exec-root", "%s/run", "-H", "unix://%s/s.sock", "--config-file", "/dev/null", "--pidfile", "%s/pid"}
	docker20, muelle20 := &side{name: "Docker", client: docker, api: "1.41"}, &side{name: "Muelle, API 1.41", client: docker, api: "1.41", daemon: muelled}
	muelleDocker, muelle := &side{name: "Muelle, docker client", client: docker, daemon: muelled}, &side{name: "Muelle", client: bin + "/muelle", daemon: muelled}
	sides := []*side{muelleDocker, muelle}
	if dockerd, err := exec.LookPath("dockerd"); err == nil {
		docker20.daemon = []string{dockerd, "--data-root", "%s/data", "--exec-root", "%s/run", "-H", "unix://%s/s.sock", "--config-file", "%s/daemon.json", "--pidfile", "%s/pid"}
		sides = append(sides, muelle20, docker20)
	} else {
		fmt.Println("dockerd is not installed: only the two clients are compared")
	}
	for _, s := range sides {
		if err := s.run(commands); err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for i, c := range commands {
		if only == c.line {
			for _, s := range sides {
				fmt.Printf("--- %s\n%s\n", s.name, s.out[i])
			}
		}
		if docker20.out != nil {
			failed += judge(c, "engine", c.engine, docker20, muelle20, i, verbose)
		}
		failed += judge(c, "client", c.client, muelleDocker, muelle, i, verbose)
	}
	fmt.Printf("%d command lines, %d differences that nobody explains\n", len(commands), failed)
	return failed, nil
}

// judge compares two sides and tells 1 for what is not as commands.txt says.
func judge(c command, kind, reason string, a, b *side, i int, verbose bool) int {
	same := a.out[i] == b.out[i]
	if same != (reason != "") && !(verbose && !same) {
		return 0
	}
	fmt.Printf("%d: %s\n", c.line, c.text)
	switch {
	case same:
		fmt.Printf("   no longer differs (%s: %s)\n\n", kind, reason)
		return 1
	case reason != "":
		fmt.Printf("   %s: %s\n", kind, reason)
	}
	fmt.Printf("%s%s\n", indent(a.name, a.out[i]), indent(b.name, b.out[i]))
	if reason != "" {
		return 0
	}
	return 1
}

func indent(name, text string) string {
	return "   --- " + name + "\n   " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n   ") + "\n"
}

// run types everything at one side.
func (s *side) run(commands []command) (err error) {
	dir, err := os.MkdirTemp("/var/tmp", "muelle-compare-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := prepare(dir); err != nil {
		return err
	}
	stop, err := s.start(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	for _, c := range commands {
		s.out = append(s.out, s.type1(dir, c.text))
	}
	return nil
}

// start runs the daemon in namespaces of its own until stop.
func (s *side) start(dir string) (stop func() error, err error) {
	args := []string{"--net", "--mount", "--propagation", "private", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}
	for _, a := range s.daemon {
		args = append(args, strings.ReplaceAll(a, "%s", dir))
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	daemon := exec.Command("unshare", args...)
	daemon.Stdout, daemon.Stderr = log, log
	if err := daemon.Start(); err != nil {
		return nil, err
	}
	stop = func() error {
		ids := `ids=$("$CLIENT" ps -aq) && [ -z "$ids" ] || "$CLIENT" rm -f $ids`
		out, err := s.shell(dir, ids).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("remove containers: %w: %s", err, out)
		}
		if e := daemon.Process.Signal(syscall.SIGTERM); e != nil {
			return errors.Join(err, e)
		}
		var exit *exec.ExitError
		if e := daemon.Wait(); e != nil && !errors.As(e, &exit) {
			return errors.Join(err, e)
		}
		return err
	}
	for range 200 {
		if err = s.shell(dir, `"$CLIENT" version >/dev/null`).Run(); err == nil {
			return stop, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	text, _ := os.ReadFile(log.Name())
	return nil, errors.Join(fmt.Errorf("the daemon does not answer: %w\n%s", err, text), stop())
}

func (s *side) shell(dir, text string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, "sh", "-c", `D() { "$CLIENT" "$@"; }
`+text)
	cmd.Cancel = func() error { defer cancel(); return cmd.Process.Kill() }
	cmd.WaitDelay = 2 * time.Second
	cmd.Dir = filepath.Join(dir, "work")
	home := filepath.Join(dir, "home")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "DOCKER_CONFIG=" + home, "CLIENT=" + s.client, "TERM=dumb", "TZ=UTC", "DOCKER_BUILDKIT=0",
		"DOCKER_HOST=unix://" + dir + "/s.sock", "MUELLE_HOST=unix://" + dir + "/s.sock", "MUELLE_AUTOSTART=0", "DOCKER_CLI_HINTS=false",
	}
	if s.api != "" {
		cmd.Env = append(cmd.Env, "DOCKER_API_VERSION="+s.api)
	}
	return cmd
}

func (s *side) type1(dir, text string) string {
	cmd := s.shell(dir, text)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	code := cmd.ProcessState.ExitCode()
	out := stdout.String()
	if stderr.Len() > 0 {
		// What begins with a capital in one version of Docker does not in another.
		out += "stderr: " + strings.ToLower(stderr.String())
	}
	if err != nil {
		out += fmt.Sprintf("status: %d\n", code)
	}
	return normalize(out, dir, filepath.Base(s.client))
}

// prepare makes the folder in which the lines are typed.
func prepare(dir string) error {
	work := filepath.Join(dir, "work")
	for _, d := range []string{"home", "work/root/bin", "work/root/etc", "work/root/tmp", "work/ctx"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"root/etc/passwd": "root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n",
		"root/etc/group":  "root:x:0:\nuser:x:1000:\nextra:x:2000:\n",
		"ctx/Dockerfile":  "FROM box\nENV A=1\nCOPY f /f\nRUN cat /f\nCMD [\"cat\", \"/f\"]\n",
		"ctx/f":           "content\n",
		"../daemon.json":  "{}",
		"vars.env":        "FROM_FILE=yes\n# comment\nHOME_NOT_SET\n",
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(work, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return exec.Command("sh", "-c", `cd "$1/root" && cp "$(command -v busybox)" bin/busybox && for a in $(bin/busybox --list); do [ $a = busybox ] || ln -s busybox bin/$a; done && tar -cf ../box.tar .`, "sh", work).Run()
}
