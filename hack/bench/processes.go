package main

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// usage is in MiB.
type usage struct {
	processes      int
	pss, anonymous float64
}

// helpers are the processes of an engine, by the names of their programs.
type helpers map[string]usage

func (h helpers) names() []string { return slices.Sorted(maps.Keys(h)) }

func (h helpers) sum() (all usage) {
	for _, u := range h {
		all.processes += u.processes
		all.pss += u.pss
		all.anonymous += u.anonymous
	}
	return all
}

// helpers asks the kernel for what an engine's processes use: all that run in the
// bench's own namespace of processes and have to do with the engine's folder, by their
// command line or environment or by those of a process above. What is none of the
// engine's known helpers is an error, and so is what belongs to no engine.
func (t *table) helpers(e *engine) (helpers, error) {
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for i, p := range procs {
		procs[i] = filepath.Base(p)
	}
	return t.sumOf(e, procs)
}

func (t *table) sumOf(e *engine, pids []string) (helpers, error) {
	found := helpers{}
	for _, pid := range pids {
		name, ok := t.helper(pid)
		if !ok {
			continue
		}
		owner := t.owner(pid)
		if owner != nil && owner != e {
			continue
		}
		cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if len(cmdline) == 0 { // ended meanwhile
			continue
		}
		if owner == nil || !slices.Contains(e.helpers, name) {
			return nil, fmt.Errorf("process %s, %s, is not counted: %q", pid, name, cmdline)
		}
		u := found[name]
		if err := u.add("/proc/" + pid); err != nil {
			return nil, err
		}
		found[name] = u
	}
	return found, nil
}

// helper gives the name of a process's program; ok is false for the bench's own
// processes, the containers', which have namespaces of their own, and what has ended.
func (t *table) helper(pid string) (name string, ok bool) {
	proc := "/proc/" + pid
	exe, err := os.Readlink(proc + "/exe")
	if err != nil {
		return "", false
	}
	if own, err := os.Readlink("/proc/self/exe"); err != nil || exe == own {
		return "", false
	}
	theirs, err1 := os.Readlink(proc + "/ns/pid")
	ours, err2 := os.Readlink("/proc/self/ns/pid")
	if err1 != nil || err2 != nil || theirs != ours {
		return "", false
	}
	for _, e := range t.engines {
		if e.holder != nil && e.holder.Process != nil && pid == strconv.Itoa(e.holder.Process.Pid) {
			return "", false
		}
	}
	return program(exe), true
}

// program is a program's name, of what the kernel says of its file: that of a shim of
// Muelle is "/memfd:muelle-shim (deleted)".
func program(exe string) string {
	return strings.TrimPrefix(filepath.Base(strings.TrimSuffix(exe, " (deleted)")), "memfd:")
}

// add adds what smaps_rollup says of a process.
func (u *usage) add(proc string) error {
	f, err := os.Open(proc + "/smaps_rollup")
	if err != nil {
		return nil // ended meanwhile
	}
	defer f.Close()
	u.processes++
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var kb float64
		switch name, rest, _ := strings.Cut(lines.Text(), ":"); name {
		case "Pss":
			fmt.Sscan(rest, &kb)
			u.pss += kb / 1024
		case "Pss_Anon":
			fmt.Sscan(rest, &kb)
			u.anonymous += kb / 1024
		}
	}
	return lines.Err()
}

// owner is the engine that a process belongs to, or nil.
func (t *table) owner(pid string) *engine {
	for p := "/proc/" + pid; ; {
		cmdline, err := os.ReadFile(p + "/cmdline")
		if err != nil {
			return nil
		}
		environ, _ := os.ReadFile(p + "/environ")
		for _, e := range t.engines {
			if strings.Contains(string(cmdline), e.dir+"/") || strings.Contains(string(environ), e.dir+"/") {
				return e
			}
		}
		stat, err := os.ReadFile(p + "/stat")
		if err != nil {
			return nil
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 2 || fields[1] == "1" || fields[1] == "0" {
			return nil
		}
		p = "/proc/" + fields[1]
	}
}
