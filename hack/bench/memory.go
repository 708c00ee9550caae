package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// usage is in MiB.
type usage struct{ pss, anonymous float64 }

func (t *table) memory(string) error {
	if !t.wanted("memory") {
		return nil
	}
	failed := map[string]error{}
	for _, e := range t.engines {
		for i := 0; i < 20 && failed[e.name] == nil; i++ {
			failed[e.name] = e.cli("run", "--rm", image, "true").do()
		}
		if failed[e.name] == nil {
			failed[e.name] = e.cli("ps").do()
		}
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
	for _, r := range []struct {
		name, budget string
		value        func(usage) float64
	}{
		{"PSS", "30 MiB", func(u usage) float64 { return u.pss }},
		{"anonymous", "12 MiB", func(u usage) float64 { return u.anonymous }},
	} {
		if err := t.row("memory of all daemons at rest, "+r.name, r.budget, "MiB", 1, func(e *engine) (float64, error) {
			return r.value(rest[e.name]), cmp.Or(e.without("daemon"), failed[e.name])
		}); err != nil {
			return err
		}
	}
	const many = 20
	return t.row("memory of one more idle container with a published port, of twenty", "1 MiB", "MiB", 1, func(e *engine) (float64, error) {
		var names []string
		defer func() { e.tidy(names...) }()
		for i := range many {
			name := fmt.Sprintf("idle%d", i)
			names = append(names, name)
			if err := e.cli("run", "-d", "--name", name, "-p", fmt.Sprintf("%d:80", 30000+i), image, "sleep", "100000").do(); err != nil {
				return 0, err
			}
		}
		time.Sleep(2 * time.Second)
		u, err := memoryOf(e)
		return (u.pss - rest[e.name].pss) / many, err
	})
}

// memoryOf sums what the kernel says of an engine's processes: those named as its
// helpers that are below its daemon, or whose command line names its folder.
func memoryOf(e *engine) (usage, error) {
	var sum usage
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return sum, err
	}
	for _, p := range procs {
		exe, err := os.Readlink(p + "/exe")
		if err != nil || !slices.Contains(e.helpers, filepath.Base(strings.TrimSuffix(exe, " (deleted)"))) {
			continue
		}
		if !ours(p, e) {
			continue
		}
		f, err := os.Open(p + "/smaps_rollup")
		if err != nil {
			continue // ended meanwhile
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var kb float64
			switch name, rest, _ := strings.Cut(lines.Text(), ":"); name {
			case "Pss":
				fmt.Sscan(rest, &kb)
				sum.pss += kb / 1024
			case "Pss_Anon":
				fmt.Sscan(rest, &kb)
				sum.anonymous += kb / 1024
			}
		}
		f.Close()
	}
	return sum, nil
}

// ours tells whether a process belongs to this run: another daemon may be running
// on the machine.
func ours(proc string, e *engine) bool {
	for p := proc; ; {
		cmdline, err := os.ReadFile(p + "/cmdline")
		if err != nil {
			return false
		}
		environ, _ := os.ReadFile(p + "/environ")
		if strings.Contains(string(cmdline), e.dir) || strings.Contains(string(environ), e.dir) {
			return true
		}
		stat, err := os.ReadFile(p + "/stat")
		if err != nil {
			return false
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 || fields[1] == "1" || fields[1] == "0" {
			return false
		}
		p = "/proc/" + fields[1]
	}
}
