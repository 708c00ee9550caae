package build

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/continuity/fs"
	"github.com/moby/buildkit/executor"
	bkoci "github.com/moby/buildkit/executor/oci"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ensureDir makes the working directory where the image lacks it, as Docker does.
func ensureDir(rootfs, cwd string, uid, gid int) error {
	path, err := fs.RootPath(rootfs, cwd)
	if err != nil {
		return fmt.Errorf("working dir %s points to invalid target: %w", cwd, err)
	}
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := user.MkdirAllAndChown(path, 0o755, uid, gid); err != nil {
		return fmt.Errorf("create working directory %s: %w", cwd, err)
	}
	return nil
}

// execProcess is the container's process with what an exec changes.
func execProcess(step *runningStep, meta executor.Meta) (*specs.Process, error) {
	p := *step.spec.Process
	if meta.User != "" {
		uid, gid, groups, err := bkoci.GetUser(step.rootfs, meta.User)
		if err != nil {
			return nil, err
		}
		p.User = specs.User{UID: uid, GID: gid, AdditionalGids: groups}
	}
	p.Terminal, p.Args = meta.Tty, meta.Args
	if meta.Cwd != "" {
		p.Cwd = meta.Cwd
	}
	if len(meta.Env) > 0 {
		p.Env = meta.Env
	}
	var err error
	p.Env, err = withHome(p.Env, step.rootfs, p.User.UID)
	return &p, err
}

// withHome sets HOME from the root filesystem's passwd where the step does not: the
// runtimes that BuildKit is written for do it when the process starts.
func withHome(env []string, rootfs string, uid uint32) ([]string, error) {
	if slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "HOME=") }) {
		return env, nil
	}
	home := "/"
	passwd, err := fs.RootPath(rootfs, "/etc/passwd")
	if err != nil {
		return nil, fmt.Errorf("look up the home directory: %w", err)
	}
	users, err := user.ParsePasswdFileFilter(passwd, func(u user.User) bool { return u.Uid == int(uid) })
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look up the home directory: %w", err)
	}
	if len(users) > 0 && users[0].Home != "" {
		home = users[0].Home
	}
	return append(slices.Clip(env), "HOME="+home), nil
}
