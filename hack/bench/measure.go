package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// pause between samples: an idle machine is what a user has, and what hot loops
// hide (an RCU grace period at every cgroup attach).
const pause = 300 * time.Millisecond

func timed(cmd *exec.Cmd) (float64, error) {
	var errs strings.Builder
	cmd.Stderr = &errs
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, errs.String())
	}
	return float64(took.Microseconds()) / 1000, nil
}

func (t *table) measure(dir string) error {
	for _, step := range []func(string) error{t.memory, t.starts, t.runtimes, t.parallel, t.composes, t.builds, t.ports, t.networks, t.throughput, t.daemons} {
		if err := step(dir); err != nil {
			return err
		}
	}
	return nil
}

func (t *table) starts(string) error {
	err := t.quick("`run --rm IMAGE true`, bridge network, from the shell", "30 ms", func(e *engine) *exec.Cmd {
		return e.cli("run", "--rm", image, "true")
	})
	if err != nil {
		return err
	}
	for _, e := range t.engines {
		if out, err := e.cli("run", "-d", "--name", "target", image, "sleep", "100000").CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", e.name, err, out)
		}
		defer func() { e.cli("rm", "-f", "target").Run() }()
	}
	return t.quick("`exec` of `true`", "10 ms", func(e *engine) *exec.Cmd { return e.cli("exec", "target", "true") })
}

func (t *table) parallel(string) error {
	return t.row("50 containers started by 8 clients, bridge network", "0.8 s", "ms", 3, func(e *engine) (float64, error) {
		time.Sleep(pause)
		begin := time.Now()
		err := shared(50, 8, func(i int) error {
			if out, err := e.cli("run", "-d", "--name", fmt.Sprintf("par%d", i), image, "sleep", "100000").CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
		took := time.Since(begin)
		names := []string{"rm", "-f"}
		for i := range 50 {
			names = append(names, fmt.Sprintf("par%d", i))
		}
		e.cli(names...).Run()
		return float64(took.Microseconds()) / 1000, err
	})
}

// shared lets clients do n things, each the next one that is left, and gives the first
// error after all have ended.
func shared(n, clients int, do func(i int) error) error {
	numbers := make(chan int, n)
	for i := range n {
		numbers <- i
	}
	close(numbers)
	var wait sync.WaitGroup
	errs := make(chan error, n)
	for range clients {
		wait.Go(func() {
			for i := range numbers {
				if err := do(i); err != nil {
					errs <- err
				}
			}
		})
	}
	wait.Wait()
	close(errs)
	return <-errs
}

const composeFile = `services:
  one:   {image: "bench:1", command: ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"], networks: [front]}
  two:   {image: "bench:1", command: ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"], networks: [front, back], depends_on: [three]}
  three: {image: "bench:1", command: ["sh", "-c", "trap 'exit 0' TERM; sleep 100000 & wait"], networks: [back]}
networks: {front: {}, back: {}}
`

func (t *table) composes(dir string) error {
	file := filepath.Join(dir, "compose.yaml")
	if err := os.WriteFile(file, []byte("version: '3'\n"+composeFile), 0o644); err != nil {
		return err
	}
	downs := map[string][]float64{}
	err := t.row("`compose up -d` of three services on two networks", "120 ms", "ms", max(3, t.runs/3), func(e *engine) (float64, error) {
		if e.compose == nil {
			return 0, errNotMeasured
		}
		time.Sleep(pause)
		up, err := timed(e.composeCLI(file, "up", "-d"))
		if err != nil {
			return 0, err
		}
		time.Sleep(pause)
		down, err := timed(e.composeCLI(file, "down"))
		downs[e.name] = append(downs[e.name], down)
		return up, err
	})
	if err != nil || !t.wanted("`compose") {
		return err
	}
	return t.row("`compose down` of the same", "120 ms", "ms", 1, func(e *engine) (float64, error) {
		if len(downs[e.name]) == 0 {
			return 0, errNotMeasured
		}
		return median(downs[e.name]), nil
	})
}

func (t *table) builds(dir string) error {
	context := filepath.Join(dir, "build")
	if err := os.MkdirAll(context, 0o755); err != nil {
		return err
	}
	text := "FROM bench:1\nCOPY file /file\nRUN echo one >/one\nRUN echo two >/two\nENV A=1\nCMD [\"true\"]\n"
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(text), 0o644); err != nil {
		return err
	}
	build := func(e *engine, more ...string) *exec.Cmd {
		return e.cli(append(append([]string{"build", "-q", "-t", "built:1"}, more...), context)...)
	}
	write := func() error {
		return os.WriteFile(filepath.Join(context, "file"), fmt.Appendln(nil, time.Now().UnixNano()), 0o644)
	}
	err := t.row("five-step Dockerfile, cold, base image present", "0.4 s", "ms", 5, func(e *engine) (float64, error) {
		if err := write(); err != nil {
			return 0, err
		}
		time.Sleep(pause)
		return timed(build(e, "--no-cache"))
	})
	if err != nil {
		return err
	}
	for _, e := range t.engines {
		if t.wanted("cached") {
			if _, err := timed(build(e)); err != nil {
				return err
			}
		}
	}
	return t.quick("the same, fully cached", "80 ms", func(e *engine) *exec.Cmd { return build(e) })
}

func (t *table) ports(string) error {
	base := map[string]float64{}
	port := 20000
	err := t.row("publishing 1,000 ports (run with, less run without)", "20 ms", "ms", 3, func(e *engine) (float64, error) {
		if e.name != "Muelle" {
			return 0, errNotMeasured // two processes a port: minutes
		}
		time.Sleep(pause)
		bare, err := timed(e.cli("run", "--rm", image, "true"))
		if err != nil {
			return 0, err
		}
		time.Sleep(pause)
		with, err := timed(e.cli("run", "--rm", "-p", fmt.Sprintf("%d-%d:1-1000", port, port+999), image, "true"))
		port += 1000
		base[e.name] = bare
		return with - bare, err
	})
	return err
}

func (t *table) memory(string) error {
	if !t.wanted("memory") {
		return nil
	}
	for _, e := range t.engines {
		for range 20 {
			e.cli("run", "--rm", image, "true").Run()
		}
		e.cli("ps").Run()
	}
	time.Sleep(10 * time.Second)
	rest := map[string]usage{}
	for _, e := range t.engines {
		u, err := memoryOf(e)
		if err != nil {
			return err
		}
		rest[e.name] = u
	}
	daemons := func(e *engine) bool { return e.daemon != nil }
	if err := t.row("memory of all daemons at rest, PSS", "30 MiB", "MiB", 1, func(e *engine) (float64, error) {
		if !daemons(e) {
			return 0, errNotMeasured
		}
		return rest[e.name].pss, nil
	}); err != nil {
		return err
	}
	if err := t.row("memory of all daemons at rest, anonymous", "12 MiB", "MiB", 1, func(e *engine) (float64, error) {
		if !daemons(e) {
			return 0, errNotMeasured
		}
		return rest[e.name].anonymous, nil
	}); err != nil {
		return err
	}
	const many = 20
	return t.row("memory of one more idle container with a published port, of twenty", "1 MiB", "MiB", 1, func(e *engine) (float64, error) {
		names := []string{"rm", "-f"}
		for i := range many {
			name := fmt.Sprintf("idle%d", i)
			names = append(names, name)
			if out, err := e.cli("run", "-d", "--name", name, "-p", fmt.Sprintf("%d:80", 30000+i), image, "sleep", "100000").CombinedOutput(); err != nil {
				return 0, fmt.Errorf("%w: %s", err, out)
			}
		}
		defer e.cli(names...).Run()
		time.Sleep(2 * time.Second)
		u, err := memoryOf(e)
		return (u.pss - rest[e.name].pss) / many, err
	})
}

func (t *table) daemons(string) error {
	if !t.wanted("daemon from exec") {
		return nil
	}
	for _, e := range t.engines {
		if e.daemon == nil {
			continue
		}
		log.Printf("%s: making 200 containers and 30 networks", e.name)
		for i := range 200 {
			if out, err := e.cli("create", "--name", fmt.Sprintf("old%d", i), image, "true").CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
		for i := range 30 {
			if out, err := e.cli("network", "create", fmt.Sprintf("net%d", i), "--subnet", fmt.Sprintf("10.210.%d.0/24", i)).CombinedOutput(); err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
		}
	}
	return t.row("daemon from exec to first answer (200 stopped containers, 30 networks)", "100 ms", "ms", 5, func(e *engine) (float64, error) {
		if e.daemon == nil {
			return 0, errNotMeasured
		}
		if err := e.end(); err != nil {
			return 0, err
		}
		time.Sleep(pause)
		took, err := e.launch()
		return float64(took.Microseconds()) / 1000, err
	})
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}
