// Package builtin is the driver of the two networks that every engine has and of which there is nothing to make: host, which shares
// the host's own namespace with the container, and none, which leaves it with its loopback interface alone.
package builtin

import (
	"context"

	"github.com/containerd/errdefs"

	"muelle/internal/netdriver"
)

// Driver implements netdriver.Driver.
type Driver struct {
	// Name is the driver's: "host" or "null".
	Name string
}

// Check accepts the predefined network only.
func (d Driver) Check(n netdriver.Network) (string, error) {
	if !n.Default {
		return "", errdefs.ErrPermissionDenied.WithMessage("only one instance of \"" + d.Name + "\" network is allowed")
	}
	return "", nil
}

// Up does nothing.
func (Driver) Up(context.Context, netdriver.Network) error { return nil }

// Down does nothing.
func (Driver) Down(context.Context, netdriver.Network) error { return nil }

// Join does nothing.
func (Driver) Join(context.Context, netdriver.Network, netdriver.Endpoint) error { return nil }

// Leave has nothing to wait for.
func (Driver) Leave(_ netdriver.Network, _ netdriver.Endpoint, gone func()) { gone() }

// Publish ignores the ports, as Docker does: the container's are the host's, or there are none.
func (Driver) Publish(context.Context, []netdriver.Mapping) error { return nil }

// Unpublish does nothing.
func (Driver) Unpublish([]netdriver.Mapping) {}
