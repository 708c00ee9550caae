//go:build root

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// daemonOf tells whose daemon gave an interface its name, and the end of that one's log.
func daemonOf(name string) string {
	for instance, daemon := range instances {
		if strings.HasPrefix(name, "mueb"+instance[:4]) || strings.HasPrefix(name, "muev"+instance[:4]) {
			return fmt.Sprintf(" of daemon %s, whose log ends so:\n%s\n", daemon, tail(filepath.Join(world.dir, daemon, "muelled.log")))
		}
	}
	return ""
}

// leftovers looks, after every daemon has ended, for what must not be there any
// more: interfaces, nftables tables, mounts, cgroups and processes. The network
// namespace is ours alone, so whatever is in it beyond what we made is a leftover.
func leftovers() error {
	var errs []error
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		if name := l.Attrs().Name; name != "lo" && name != "uplink" {
			errs = append(errs, fmt.Errorf("interface %s%s is left", name, daemonOf(name)))
		}
	}
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := conn.ListTables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		errs = append(errs, fmt.Errorf("nftables table %s is left", t.Name))
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, world.dir) && !strings.Contains(line, "/etc/resolv.conf") {
			errs = append(errs, fmt.Errorf("mount is left: %s", strings.TrimSpace(line)))
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return err
	}
	for _, p := range procs {
		data, err := os.ReadFile(p)
		if err == nil && (strings.Contains(string(data), world.dir+"/") && strings.Contains(string(data), "muelle-shim")) {
			errs = append(errs, fmt.Errorf("process is left: %s", strings.ReplaceAll(string(data), "\x00", " ")))
		}
	}
	for instance, name := range instances {
		err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == "muelle-"+instance {
				errs = append(errs, fmt.Errorf("cgroup %s of daemon %s is left", path, name))
				return filepath.SkipDir
			}
			return nil
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
