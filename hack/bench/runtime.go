package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// runtimes measures the OCI runtimes by themselves, one bundle for all: muelle-oci,
// and in the columns of the peers what those run on.
func (t *table) runtimes(dir string) error {
	const name = "the OCI runtime alone: `run` of a bundle with `true` (muelle-oci, runc, crun)"
	if !t.wanted(name) {
		return nil
	}
	bundle, err := makeBundle(t.engines[0].runtime, dir)
	if err != nil {
		return err
	}
	n := 0
	return t.quick(name, "12 ms", func(e *engine) (*command, error) {
		if err := e.without("runtime"); err != nil {
			return nil, err
		}
		n++
		args := []string{e.runtime, "--root", filepath.Join(dir, "oci-"+e.name), "run", "--bundle", bundle, "bench" + strconv.Itoa(n)}
		if e.holder != nil {
			args = append([]string{e.path, "--mount", "--target", strconv.Itoa(e.holder.Process.Pid)}, args...)
		}
		return &command{args: args, limit: patience}, nil
	})
}

// makeBundle makes a bundle of the busybox system by the runtime's own template.
func makeBundle(runtime, dir string) (string, error) {
	bundle := filepath.Join(dir, "bundle")
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		return "", err
	}
	spec := exec.Command(runtime, "spec")
	spec.Dir = bundle
	if out, err := spec.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make a bundle: %w: %s", err, out)
	}
	path := filepath.Join(bundle, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	doc := map[string]any{}
	if err := json.Unmarshal(data, &doc); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	doc["ociVersion"] = "1.0.2" // crun 1.8 and runc 1.1 know no newer one
	doc["root"] = map[string]any{"path": filepath.Join(dir, "rootfs"), "readonly": true}
	process, ok := doc["process"].(map[string]any)
	if !ok {
		return "", fmt.Errorf("%s has no process", path)
	}
	process["terminal"], process["args"] = false, []string{"true"}
	if data, err = json.Marshal(doc); err != nil {
		return "", err
	}
	return bundle, os.WriteFile(path, data, 0o644)
}

// quick repeats a command in turns over the engines.
func (t *table) quick(name, budget string, command func(e *engine) (*command, error)) error {
	return t.row(name, budget, "ms", t.runs, func(e *engine) (float64, error) {
		c, err := command(e)
		if err != nil {
			return 0, err
		}
		time.Sleep(pause)
		return c.timed()
	})
}
