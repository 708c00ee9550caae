package container

import (
	"context"
	"fmt"
	"io"
	"net/netip"

	"muelle/api"
	"muelle/internal/linux/netns"
	"muelle/internal/network"
)

// Capture writes the packets of a running container until it ends, ctx is done, or as
// many as were asked for have come; see network.Service.Capture.
func (s *Service) Capture(ctx context.Context, ref string, o network.CaptureOptions, begin func(names map[netip.Addr]string) io.Writer) (api.CaptureSummary, error) {
	var none api.CaptureSummary
	c, err := s.find(ref)
	if err != nil {
		return none, err
	}
	c.mu.Lock()
	task, rec, ended := c.task, c.rec, c.ended
	alive := c.st.alive() && task != nil
	c.mu.Unlock()
	if !alive || task.Pid() == 0 {
		return none, conflict("container %s is not running: it has no interfaces", ref)
	}
	owner := c
	if mode := rec.HostConfig.NetworkMode; mode.IsContainer() {
		if owner, err = s.find(mode.ConnectedContainer()); err != nil {
			return none, err
		}
		other, _ := owner.snapshot()
		rec = other
	}
	host := rec.HostConfig.NetworkMode.IsHost()
	if host && !o.Host {
		return none, network.ErrHostInterfaces
	}
	open := task.NetNS
	if host {
		open = netns.OfHost
	}
	ns, err := open(ctx)
	if err != nil {
		return none, fmt.Errorf("open the container's network: %w", err)
	}
	defer ns.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return s.o.Networks.Capture(ctx, owner.id, ns, o, begin)
}
