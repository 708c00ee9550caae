package system

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

type host struct {
	name, kernel, machine, os, osVersion string
	memory                               int64
}

func (s *Service) readHost() (*host, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("ask kernel's name: %w", err)
	}
	var m unix.Sysinfo_t
	if err := unix.Sysinfo(&m); err != nil {
		return nil, fmt.Errorf("ask memory's size: %w", err)
	}
	h := &host{
		name: unix.ByteSliceToString(u.Nodename[:]), kernel: unix.ByteSliceToString(u.Release[:]),
		machine: unix.ByteSliceToString(u.Machine[:]), memory: int64(m.Totalram) * int64(m.Unit),
	}
	defer s.releases.Since(time.Now())
	h.os, h.osVersion = readOS("/etc/os-release", "/usr/lib/os-release")
	return h, nil
}

// readOS reads the name and version of the first os-release that is there.
func readOS(paths ...string) (name, version string) {
	name = "Linux"
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			key, value, _ := strings.Cut(lines.Text(), "=")
			value = unquote(value)
			switch key {
			case "PRETTY_NAME":
				name = value
			case "VERSION_ID":
				version = value
			}
		}
		break
	}
	return name, version
}

func unquote(s string) string {
	if u, err := strconv.Unquote(s); err == nil {
		return u
	}
	return strings.Trim(s, `'"`)
}

func openFiles() int {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(names)
}

func readFlag(path string) bool {
	b, err := os.ReadFile(path)
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

// buildSettings are the commit that the program was built from and its time, where
// the build recorded them.
func buildSettings() (commit, at string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", ""
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			commit = s.Value
		case "vcs.time":
			at = s.Value
		}
	}
	return commit, at
}

// libraryVersion is the version of a module that is linked into this program.
func libraryVersion(module string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "N/A"
	}
	for _, d := range info.Deps {
		if d.Path == module {
			return d.Version
		}
	}
	return "N/A"
}

// maskCredentials replaces user and password of a proxy's URL.
func maskCredentials(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}
