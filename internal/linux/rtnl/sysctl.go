package rtnl

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Sysctl writes a value below /proc/sys/net; name as in sysctl(8), with slashes.
func Sysctl(name, value string) error {
	if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl net/%s: %w", name, err)
	}
	return nil
}

// SysctlIs tells whether a number below /proc/sys/net has the value; false if it is not there.
func SysctlIs(name string, value int) bool {
	data, err := os.ReadFile("/proc/sys/net/" + name)
	return err == nil && strings.TrimSpace(string(data)) == strconv.Itoa(value)
}

// HasIPv6 tells whether the kernel speaks IPv6.
func HasIPv6() bool {
	_, err := os.Stat("/proc/sys/net/ipv6")
	return err == nil
}

// HasIPv6On tells whether an interface speaks IPv6.
func HasIPv6On(name string) bool {
	_, err := os.Stat("/proc/sys/net/ipv6/conf/" + name)
	return err == nil
}
