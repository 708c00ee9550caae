package system

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownProcess is what /proc says of the daemon.
type ownProcess struct {
	cpu, resident, virtual, started, maxFiles float64
}

// userHZ is 100 on every architecture that we build for.
const userHZ = 100

// readProcess reads /proc/self/stat; see proc_pid_stat(5) for the fields.
func readProcess() (*ownProcess, error) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 22 {
		return nil, fmt.Errorf("/proc/self/stat has %d fields", len(f))
	}
	var n [5]float64 // utime, stime, starttime, vsize, rss
	for i, at := range []int{11, 12, 19, 20, 21} {
		if n[i], err = strconv.ParseFloat(f[at], 64); err != nil {
			return nil, fmt.Errorf("read /proc/self/stat: %w", err)
		}
	}
	boot, err := bootTime()
	if err != nil {
		return nil, err
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return nil, err
	}
	return &ownProcess{
		cpu: (n[0] + n[1]) / userHZ, started: boot + n[2]/userHZ, virtual: n[3],
		resident: n[4] * float64(os.Getpagesize()), maxFiles: float64(files.Cur),
	}, nil
}

// bootTime is when the machine was started, in seconds since 1970.
func bootTime() (float64, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(b), "\nbtime ")
	line, _, _ := strings.Cut(rest, "\n")
	if !ok {
		return 0, fmt.Errorf("/proc/stat has no btime")
	}
	return strconv.ParseFloat(strings.TrimSpace(line), 64)
}
