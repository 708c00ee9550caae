package runflags

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"regexp"
	"strings"
)

func checkStream(s string) (string, error) {
	switch l := strings.ToLower(s); l {
	case "stdin", "stdout", "stderr":
		return l, nil
	}
	return s, errors.New("valid streams are STDIN, STDOUT and STDERR")
}

// checkEnv completes a variable without a value from our own environment; one that
// is unset there stays bare, which removes it from the image's.
func checkEnv(s string) (string, error) {
	k, _, hasValue := strings.Cut(s, "=")
	if k == "" {
		return "", errors.New("invalid environment variable: " + s)
	}
	if hasValue {
		return s, nil
	}
	if v, ok := os.LookupEnv(k); ok {
		return k + "=" + v, nil
	}
	return s, nil
}

func checkLabel(s string) (string, error) {
	k, _, _ := strings.Cut(s, "=")
	k = strings.TrimLeft(k, " \t")
	if k == "" {
		return "", fmt.Errorf("invalid label '%s': empty name", s)
	}
	if strings.ContainsAny(k, " \t") {
		return "", fmt.Errorf("label '%s' contains whitespaces", k)
	}
	return s, nil
}

func checkSysctl(s string) (string, error) {
	k, _, ok := strings.Cut(s, "=")
	if ok && k != "" {
		switch k {
		case "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced":
			return s, nil
		}
		if strings.HasPrefix(k, "net.") || strings.HasPrefix(k, "fs.mqueue.") {
			return s, nil
		}
		return "", fmt.Errorf("sysctl '%s' is not allowed", s)
	}
	return "", fmt.Errorf("sysctl '%s' is not allowed", s)
}

func checkIP(s string) (string, error) {
	ip := net.ParseIP(strings.TrimSpace(s))
	if ip == nil {
		return "", fmt.Errorf("IP address is not correctly formatted: %s", s)
	}
	return ip.String(), nil
}

// checkDomain accepts a search domain; "." stands for none.
func checkDomain(s string) (string, error) {
	s = strings.Trim(s, " ")
	if s == "." {
		return s, nil
	}
	d := strings.TrimSuffix(strings.TrimSpace(s), ".")
	ok := d != "" && len(d) < 255 && strings.ContainsAny(strings.ToLower(d), "abcdefghijklmnopqrstuvwxyz")
	for label := range strings.SplitSeq(d, ".") {
		ok = ok && label != "" && label[0] != '-' && label[len(label)-1] != '-' &&
			strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
	}
	if !ok {
		return "", fmt.Errorf("%s is not a valid domain", s)
	}
	return d, nil
}

// checkExtraHost accepts NAME:IP and NAME=IP and writes the former, the only one
// that the API knows.
func checkExtraHost(s string) (string, error) {
	k, v, ok := strings.Cut(s, "=")
	if !ok {
		k, v, ok = strings.Cut(s, ":")
	}
	if !ok || k == "" || strings.Contains(k, ":") {
		return "", fmt.Errorf("bad format for add-host: %q", s)
	}
	if v == "host-gateway" {
		return k + ":" + v, nil
	}
	if len(v) > 2 && v[0] == '[' && v[len(v)-1] == ']' {
		v = v[1 : len(v)-1]
	}
	if net.ParseIP(strings.TrimSpace(v)) == nil {
		return "", fmt.Errorf("invalid IP address in add-host: %q", v)
	}
	return k + ":" + v, nil
}

func checkLink(s string) (string, error) {
	if s == "" {
		return s, errors.New("empty string specified for links")
	}
	if strings.Count(s, ":") > 1 {
		return s, errors.New("bad format for links: " + s)
	}
	return s, nil
}

func checkDeviceRule(s string) (string, error) {
	if !regexp.MustCompile(`^[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}$`).MatchString(s) {
		return s, fmt.Errorf("invalid device cgroup format '%s'", s)
	}
	return s, nil
}

func validDeviceMode(mode string) bool {
	seen := ""
	for _, c := range mode {
		if !strings.ContainsRune("rwm", c) || strings.ContainsRune(seen, c) {
			return false
		}
		seen += string(c)
	}
	return mode != ""
}

func absolute(p string) error {
	if !path.IsAbs(p) {
		return fmt.Errorf("%s is not an absolute path", p)
	}
	return nil
}
