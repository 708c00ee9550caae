package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"muelle/internal/container"
	"muelle/internal/runtime/outside"
)

// runtimes are the OCI runtimes of the flag --add-runtime and of daemon.json, by
// name; what both give adds up.
type runtimes map[string]outside.Binary

// Set adds one as name=path.
func (r *runtimes) Set(text string) error {
	name, path, ok := strings.Cut(text, "=")
	if !ok || name == "" || path == "" {
		return fmt.Errorf("invalid runtime %q: use name=path", text)
	}
	return r.add(name, outside.Binary{Path: path})
}

func (r *runtimes) add(name string, b outside.Binary) error {
	if *r == nil {
		*r = runtimes{}
	}
	if _, ok := (*r)[name]; ok {
		return fmt.Errorf("runtime %q was already registered", name)
	}
	(*r)[name] = b
	return nil
}

// String gives what was set.
func (r *runtimes) String() string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(*r)) {
		out = append(out, name+"="+(*r)[name].Path)
	}
	return strings.Join(out, " ")
}

// Type is the word in the help text.
func (r *runtimes) Type() string { return "runtime" }

// UnmarshalJSON reads daemon.json's form and adds it.
func (r *runtimes) UnmarshalJSON(b []byte) error {
	var in map[string]struct {
		Path    string          `json:"path"`
		Args    []string        `json:"runtimeArgs"`
		Type    string          `json:"runtimeType"`
		Options json.RawMessage `json:"options"`
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	for name, one := range in {
		switch {
		case one.Type != "" && one.Type != "io.containerd.runc.v2":
			return fmt.Errorf("runtime %s: runtimeType %q is a shim of containerd's, which does not run here: give the path of an OCI runtime", name, one.Type)
		case len(one.Options) > 0:
			return fmt.Errorf("runtime %s: options are of containerd's shims, which do not run here: use runtimeArgs", name)
		case one.Path == "":
			return fmt.Errorf("runtime %s: a path is needed", name)
		}
		if err := r.add(name, outside.Binary{Path: one.Path, Args: one.Args}); err != nil {
			return err
		}
	}
	return nil
}

// checkRuntimes finds the programs and knows the default.
func (c *config) checkRuntimes() error {
	for name, b := range c.Runtimes {
		if name == container.OwnRuntime {
			return errors.New("runtime name 'muelle' is reserved")
		}
		path, err := exec.LookPath(b.Path)
		if err != nil {
			return fmt.Errorf("runtime %s: %w", name, err)
		}
		if b.Path, err = filepath.Abs(path); err != nil {
			return err
		}
		c.Runtimes[name] = b
	}
	d := c.DefaultRuntime
	if _, ok := c.Runtimes[d]; !ok && d != "" && d != container.OwnRuntime && d != "runc" {
		return fmt.Errorf("specified default runtime '%s' does not exist", d)
	}
	return nil
}

// defaultRuntime is what containers get; "runc" without a program of that name means
// the project's own, as in a container's --runtime.
func (c *config) defaultRuntime() string {
	if _, ok := c.Runtimes[c.DefaultRuntime]; ok {
		return c.DefaultRuntime
	}
	return container.OwnRuntime
}
