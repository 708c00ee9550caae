package container

import (
	"context"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/container/layer"
	"muelle/internal/oci"
	"muelle/internal/runtime"
)

// execSpec gives the process document of an exec. Names of users are looked up in
// the running container's own files.
func (s *Service) execSpec(ctx context.Context, c *entry, task runtime.Task, user string, o oci.ExecOptions) (*specs.Process, error) {
	base, err := s.runningSpec(ctx, c, task)
	if err != nil {
		return nil, err
	}
	if user != "" {
		rec, _ := c.snapshot()
		u, home, err := resolveUserIn(task, user, rec.HostConfig.GroupAdd)
		if err != nil {
			return nil, err
		}
		o.User, o.Home = &u, home
	}
	return oci.ExecProcess(base, o)
}

// runningSpec gives the document of the run, put together again where the daemon
// was restarted since.
func (s *Service) runningSpec(ctx context.Context, c *entry, task runtime.Task) (*specs.Spec, error) {
	c.mu.Lock()
	spec, rec := c.spec, c.rec
	c.mu.Unlock()
	if spec != nil {
		return spec, nil
	}
	n := &starting{s: s, c: c, rec: rec}
	var err error
	if n.user, n.home, err = resolveUserIn(task, rec.Config.User, rec.HostConfig.GroupAdd); err != nil {
		return nil, err
	}
	if err := n.buildSpec(ctx); err != nil {
		return nil, err
	}
	spec = &specs.Spec{Process: n.spec.Process}
	c.mu.Lock()
	if c.task == task {
		c.spec = spec
	}
	c.mu.Unlock()
	return spec, nil
}

// resolveUserIn looks a user up in the root of a running container, which the
// container controls: links in it lead nowhere else.
func resolveUserIn(task runtime.Task, user string, groups []string) (specs.User, string, error) {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", task.Pid()), os.O_RDONLY, 0)
	if err != nil {
		return specs.User{}, "", fmt.Errorf("open the container's root: %w", err)
	}
	defer root.Close()
	return resolveUser(user, groups, func(name string) ([]byte, error) {
		const limit = 8 << 20
		return layer.ReadInRoot(root, name, limit)
	})
}
