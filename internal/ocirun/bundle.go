package ocirun

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime/native"
)

// loadBundle reads and checks a bundle's document; the root file system's path
// becomes absolute.
func loadBundle(dir string) (string, *specs.Spec, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", nil, err
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil, fmt.Errorf("JSON specification file %s not found", filepath.Join(dir, "config.json"))
	}
	if err != nil {
		return "", nil, err
	}
	s := &specs.Spec{}
	if err := json.Unmarshal(b, s); err != nil {
		return "", nil, fmt.Errorf("read config.json: %w", err)
	}
	return dir, s, check(s, dir)
}

func check(s *specs.Spec, bundle string) error {
	switch {
	case !strings.HasPrefix(s.Version, "1."):
		return fmt.Errorf("ociVersion %q is not supported, 1.0 to %s are", s.Version, specVersion)
	case s.Process == nil:
		return errors.New("process property must not be empty")
	case s.Root == nil || s.Root.Path == "":
		return errors.New("root must be specified")
	case s.Linux == nil:
		return errors.New("linux must be specified")
	case s.Solaris != nil || s.Windows != nil || s.VM != nil || s.ZOS != nil:
		return errors.New("the document is for another platform")
	case !filepath.IsAbs(s.Process.Cwd):
		return fmt.Errorf("cwd property must be an absolute path, not %q", s.Process.Cwd)
	case len(s.Process.Args) == 0:
		return errors.New("args must not be empty")
	}
	if !filepath.IsAbs(s.Root.Path) {
		s.Root.Path = filepath.Join(bundle, s.Root.Path)
	}
	root, err := filepath.EvalSymlinks(s.Root.Path)
	if err != nil {
		return fmt.Errorf("invalid rootfs: %w", err)
	}
	if st, err := os.Stat(root); err != nil || !st.IsDir() {
		return fmt.Errorf("invalid rootfs: %s is not a directory", root)
	}
	s.Root.Path = root
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range s.Linux.Namespaces {
		if seen[ns.Type] {
			return fmt.Errorf("malformed spec file: duplicated ns %q", ns.Type)
		}
		seen[ns.Type] = true
		if ns.Path != "" && !filepath.IsAbs(ns.Path) {
			return fmt.Errorf("path of the %s namespace is not absolute", ns.Type)
		}
	}
	for i, m := range s.Mounts {
		// A relative source is the bundle's; a relative destination is below the root, as
		// older documents have it.
		if isBind(m) && !filepath.IsAbs(m.Source) {
			s.Mounts[i].Source = filepath.Join(bundle, m.Source)
		}
		if isBind(m) {
			s.Mounts[i].Options = bindOptions(m.Options)
		}
	}
	if err := checkNamespaces(s); err != nil {
		return err
	}
	if s.Linux.IntelRdt != nil {
		return errors.New("Intel RDT is not supported: leave linux.intelRdt out")
	}
	if s.Linux.Seccomp != nil && s.Linux.Seccomp.ListenerPath != "" {
		return errors.New("seccomp listenerPath is not supported: no notifications are sent")
	}
	return native.CheckHooks(s.Hooks)
}

// checkNamespaces wants what a namespace needs, and refuses what needs one that is
// not there.
func checkNamespaces(s *specs.Spec) error {
	user, remapped := has(s, specs.UserNamespace)
	mapped := len(s.Linux.UIDMappings)+len(s.Linux.GIDMappings) > 0
	clock, timed := has(s, specs.TimeNamespace)
	switch {
	case mapped && !remapped:
		return errors.New("user namespace mappings specified, but user namespace isn't enabled in the config")
	case remapped && user.Path == "" && (len(s.Linux.UIDMappings) == 0 || len(s.Linux.GIDMappings) == 0):
		return errors.New("a new user namespace needs uidMappings and gidMappings")
	case len(s.Linux.TimeOffsets) > 0 && (!timed || clock.Path != ""):
		return errors.New("timeOffsets need a new time namespace")
	}
	for name, o := range s.Linux.TimeOffsets {
		if name != "monotonic" && name != "boottime" {
			return fmt.Errorf("timeOffsets: unknown clock %q, monotonic and boottime are known", name)
		}
		if o.Nanosecs > 999999999 {
			return fmt.Errorf("timeOffsets: %s: %d nanoseconds are a second or more", name, o.Nanosecs)
		}
	}
	return nil
}

// bindOptions leaves out what belongs to a file system: a bind has none of its own,
// and other runtimes pass over it.
func bindOptions(in []string) (out []string) {
	for _, o := range in {
		if native.IsMountOption(o) {
			out = append(out, o)
		}
	}
	return out
}

func isBind(m specs.Mount) bool {
	if m.Type == "bind" {
		return true
	}
	for _, o := range m.Options {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

// writePid writes a pid file so that nobody reads half of it.
func writePid(path string, pid int) error {
	if path == "" {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, fmt.Appendf(nil, "%d", pid), 0o666); err != nil {
		return fmt.Errorf("write pid file: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("write pid file: %w", err)
	}
	return nil
}
