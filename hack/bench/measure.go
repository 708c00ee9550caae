package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pause between samples: an idle machine is what a user has, and what hot loops
// hide (an RCU grace period at every cgroup attach).
const pause = 300 * time.Millisecond

// parts are what is measured in one run: -part names one, "main" else; -only looks in all.
var parts = map[string][]func(*table, string) error{
	"main":     {(*table).memory, (*table).starts, (*table).runtimes, (*table).parallel, (*table).composes, (*table).builds, (*table).ports, (*table).throughput, (*table).daemons},
	"networks": {(*table).networks},
}

func (t *table) measure(dir, part string) error {
	for i, name := range []string{"main", "networks"} {
		if name != part && (part != "" || t.only == "") {
			continue
		}
		for j, step := range parts[name] {
			t.order = 10000*i + 100*j
			if err := step(t, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *table) starts(string) error {
	err := t.quick("`run --rm IMAGE true`, bridge network, from the shell", "30 ms", func(e *engine) (*command, error) {
		return e.cli("run", "--rm", image, "true"), nil
	})
	const name = "`exec` of `true`"
	if err != nil || !t.wanted(name) {
		return err
	}
	running := map[string]error{}
	for _, e := range t.engines {
		running[e.name] = e.cli("run", "-d", "--name", "target", image, "sleep", "100000").do()
		defer e.tidy("target")
	}
	return t.quick(name, "10 ms", func(e *engine) (*command, error) { return e.cli("exec", "target", "true"), running[e.name] })
}

func (t *table) parallel(string) error {
	return t.row("50 containers started by 8 clients, bridge network", "0.8 s", "ms", 3, func(e *engine) (float64, error) {
		var names []string
		for i := range 50 {
			names = append(names, fmt.Sprintf("par%d", i))
		}
		time.Sleep(pause)
		begin := time.Now()
		err := shared(50, 8, func(i int) error { return e.cli("run", "-d", "--name", names[i], image, "sleep", "100000").do() })
		took := time.Since(begin)
		e.tidy(names...)
		return float64(took.Microseconds()) / 1000, err
	})
}

// shared lets clients do n things, each the next one that is left, until one fails; it
// gives the first error after all clients have ended.
func shared(n, clients int, do func(i int) error) error {
	var next atomic.Int64
	var wait sync.WaitGroup
	errs := make(chan error, clients)
	for range clients {
		wait.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := do(i); err != nil {
					next.Store(int64(n))
					errs <- err
					return
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
		if err := e.without("compose"); err != nil {
			return 0, err
		}
		time.Sleep(pause)
		up, err := e.composeCLI(file, "up", "-d").timed()
		if err != nil {
			return 0, err
		}
		time.Sleep(pause)
		down, err := e.composeCLI(file, "down").timed()
		downs[e.name] = append(downs[e.name], down)
		return up, err
	})
	if err != nil || !t.wanted("`compose") {
		return err
	}
	return t.row("`compose down` of the same", "120 ms", "ms", 1, func(e *engine) (float64, error) {
		if err := e.without("compose"); err != nil {
			return 0, err
		}
		if len(downs[e.name]) == 0 {
			return 0, notMeasured("`compose up` failed")
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
	build := func(e *engine, more ...string) *command {
		return e.cli(append(append([]string{"build", "-q", "-t", "built:1"}, more...), context)...)
	}
	write := func() error {
		return os.WriteFile(filepath.Join(context, "file"), fmt.Appendln(nil, time.Now().UnixNano()), 0o644)
	}
	const cold, cached = "five-step Dockerfile, cold, base image present", "the same Dockerfile, fully cached"
	if !t.wanted(cold) && !t.wanted(cached) {
		return nil
	}
	if err := write(); err != nil {
		return err
	}
	err := t.row(cold, "0.4 s", "ms", 5, func(e *engine) (float64, error) {
		if err := e.without("build"); err != nil {
			return 0, err
		}
		if err := write(); err != nil {
			return 0, err
		}
		time.Sleep(pause)
		return build(e, "--no-cache").timed()
	})
	if err != nil || !t.wanted(cached) {
		return err
	}
	built := map[string]error{}
	for _, e := range t.engines {
		if built[e.name] = e.without("build"); built[e.name] == nil {
			built[e.name] = build(e).do()
		}
	}
	return t.quick(cached, "80 ms", func(e *engine) (*command, error) { return build(e), built[e.name] })
}

func (t *table) ports(string) error {
	port := 20000
	return t.row("publishing 1,000 ports (`run --rm` with, less without)", "20 ms", "ms", 3, func(e *engine) (float64, error) {
		if e != t.engines[0] {
			return 0, notMeasured("measured once, in the row of `run -d` with 1,000 published ports")
		}
		time.Sleep(pause)
		bare, err := e.cli("run", "--rm", image, "true").timed()
		if err != nil {
			return 0, err
		}
		time.Sleep(pause)
		with, err := e.cli("run", "--rm", "-p", fmt.Sprintf("%d-%d:1-1000", port, port+999), image, "true").timed()
		port += 1000
		return with - bare, err
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
