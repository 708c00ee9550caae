package outside

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// prefixes stand before what happened, in runc's words.
var prefixes = []string{"runc create failed: ", "runc run failed: ", "exec failed: ", "unable to start container process: ", "error during container init: "}

// global are the arguments before a command's own.
func (t *task) global(log string) []string {
	args := append([]string{filepath.Base(t.record.Path)}, t.record.Args...)
	if t.record.Systemd {
		args = append(args, "--systemd-cgroup")
	}
	return append(args, "--root", filepath.Join(t.dir, stateDir), "--log", t.logOf(log), "--log-format", "json")
}

func (t *task) logOf(name string) string { return filepath.Join(t.dir, bundleDir, name+".log") }

// command is a call of the runtime that leaves a process.
func (t *task) command(shim int, verb, name string, terminal bool) shimapi.Command {
	c := shimapi.Command{Path: t.record.Path, PidFile: filepath.Join(t.dir, bundleDir, name+".pid"), Log: t.logOf(name)}
	c.Args = append(t.global(name), verb, "--pid-file", c.PidFile)
	if terminal {
		c.Console = name + ".sock"
		// A socket's path may have 107 bytes only: the shim's descriptor shortens it.
		c.Args = append(c.Args, "--console-socket", fmt.Sprintf("/proc/%d/fd/%d/%s", shim, shimapi.DirFD, c.Console))
	}
	return c
}

// explain words a failure, which is the end of the runtime's log, as Docker does,
// with the exit code that belongs to it.
func explain(err error) error {
	var se *runtime.StartError
	if !errors.As(err, &se) {
		return err
	}
	text := lastError(se.Err.Error())
	if text == "" {
		return err
	}
	return &runtime.StartError{Code: codeOf(text), Err: errors.New(text)}
}

// lastError finds the last error of a log of JSON lines.
func lastError(log string) (text string) {
	for line := range strings.Lines(log) {
		var one struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &one) == nil && (one.Level == "error" || one.Level == "fatal") {
			text = one.Msg
		}
	}
	for _, p := range prefixes {
		text = strings.TrimPrefix(text, p)
	}
	return text
}

// codeOf is Docker's reading of a runtime's words.
func codeOf(text string) int {
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(text, w) {
				return true
			}
		}
		return false
	}
	isExec := has("exec", "chdir", "cwd")
	switch {
	case isExec && has("executable file not found", "no such file or directory", "cannot find"):
		return 127
	case isExec && has("permission denied", "is a directory", "not a directory", "exec format error"):
		return 126
	}
	return 128
}
