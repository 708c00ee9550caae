package config

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ParseSignal reads a number or a name, with or without SIG, also RTMIN+n.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n <= 0 || n > 64 {
			return 0, invalid("invalid signal: %s", s)
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	// Second names that the kernel's headers, and Docker, have too.
	switch name {
	case "CLD":
		return syscall.SIGCHLD, nil
	case "IOT":
		return syscall.SIGABRT, nil
	case "POLL":
		return syscall.SIGIO, nil
	}
	const rtmin, rtmax = 34, 64
	for prefix, base := range map[string]int{"RTMIN": rtmin, "RTMAX": rtmax} {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		n := 0
		if rest != "" {
			var err error
			if n, err = strconv.Atoi(rest); err != nil {
				break
			}
		}
		if sig := base + n; sig >= rtmin && sig <= rtmax {
			return syscall.Signal(sig), nil
		}
	}
	return 0, invalid("invalid signal: %s", s)
}
