package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// usage is in MiB.
type usage struct{ pss, anonymous float64 }

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
