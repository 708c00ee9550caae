package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/cli/runflags"
)

const parallel = 50

// errSaid is a failure that was told already and is none of the command's.
var errSaid = errors.New("already printed")

// forEach does something to several objects at the same time and prints the name
// of each that succeeded, in order.
func (a *app) forEach(ctx context.Context, refs []string, do func(ctx context.Context, c *client.Client, ref string) error) error {
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	results := make([]chan error, len(refs))
	for i := range results {
		results[i] = make(chan error, 1)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, parallel)
	wg.Go(func() {
		for i, ref := range refs {
			slots <- struct{}{}
			wg.Go(func() {
				results[i] <- do(ctx, c, ref)
				<-slots
			})
		}
	})
	var errs []error
	for i, ref := range refs {
		switch err := <-results[i]; {
		case err == nil:
			_, _ = fmt.Fprintln(a.Out, ref)
		case !errors.Is(err, errSaid):
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

type stopFlags struct {
	signal  string
	timeout int
}

func (s *stopFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&s.signal, "signal", "s", "", "Signal to send to the container")
	f.IntVarP(&s.timeout, "timeout", "t", 0, "Seconds to wait before killing the container")
	f.IntVar(&s.timeout, "time", 0, "Seconds to wait before killing the container (deprecated: use --timeout)")
	f.Lookup("time").Hidden = true
}

func (s *stopFlags) options(c *cobra.Command) client.StopOptions {
	o := client.StopOptions{Signal: s.signal}
	if c.Flags().Changed("timeout") || c.Flags().Changed("time") {
		o.Timeout = &s.timeout
	}
	return o
}

func (a *app) stop() *cobra.Command {
	var s stopFlags
	var c *cobra.Command
	c = a.command("stop [OPTIONS] CONTAINER [CONTAINER...]", "Stop one or more running containers", minArgs(1), func(ctx context.Context, args []string) error {
		o := s.options(c)
		return a.forEach(ctx, args, func(ctx context.Context, c *client.Client, ref string) error {
			return c.Containers.Stop(ctx, ref, o)
		})
	})
	s.register(c)
	return a.also(c, "container stop", "stop")
}

func (a *app) restart() *cobra.Command {
	var s stopFlags
	var c *cobra.Command
	c = a.command("restart [OPTIONS] CONTAINER [CONTAINER...]", "Restart one or more containers", minArgs(1), func(ctx context.Context, args []string) error {
		o := s.options(c)
		return a.forEach(ctx, args, func(ctx context.Context, c *client.Client, ref string) error {
			return c.Containers.Restart(ctx, ref, o)
		})
	})
	s.register(c)
	return a.also(c, "container restart", "restart")
}

func (a *app) kill() *cobra.Command {
	var signal string
	c := a.command("kill [OPTIONS] CONTAINER [CONTAINER...]", "Kill one or more running containers", minArgs(1), func(ctx context.Context, args []string) error {
		return a.forEach(ctx, args, func(ctx context.Context, c *client.Client, ref string) error {
			return c.Containers.Kill(ctx, ref, signal)
		})
	})
	c.Flags().StringVarP(&signal, "signal", "s", "", "Signal to send to the container")
	return a.also(c, "container kill", "kill")
}

func (a *app) pause() *cobra.Command {
	c := a.command("pause CONTAINER [CONTAINER...]", "Pause all processes within one or more containers", minArgs(1), func(ctx context.Context, args []string) error {
		return a.forEach(ctx, args, func(ctx context.Context, c *client.Client, ref string) error { return c.Containers.Pause(ctx, ref) })
	})
	return a.also(c, "container pause", "pause")
}

func (a *app) unpause() *cobra.Command {
	c := a.command("unpause CONTAINER [CONTAINER...]", "Unpause all processes within one or more containers", minArgs(1), func(ctx context.Context, args []string) error {
		return a.forEach(ctx, args, func(ctx context.Context, c *client.Client, ref string) error { return c.Containers.Unpause(ctx, ref) })
	})
	return a.also(c, "container unpause", "unpause")
}

func (a *app) rm() *cobra.Command {
	var o client.RemoveOptions
	c := a.command("rm [OPTIONS] CONTAINER [CONTAINER...]", "Remove one or more containers", minArgs(1), func(ctx context.Context, args []string) error {
		return a.forEach(ctx, args, func(ctx context.Context, c *client.Client, ref string) error {
			ref = strings.Trim(ref, "/")
			if ref == "" {
				return errors.New("container name cannot be empty")
			}
			err := c.Containers.Remove(ctx, ref, o)
			// By force, what does not exist is as good as removed.
			if o.Force && errdefs.IsNotFound(err) {
				_, _ = fmt.Fprintln(a.Err, err)
				return errSaid
			}
			return err
		})
	})
	f := c.Flags()
	f.BoolVarP(&o.Volumes, "volumes", "v", false, "Remove anonymous volumes associated with the container")
	f.BoolVarP(&o.Link, "link", "l", false, "Remove the specified link")
	f.BoolVarP(&o.Force, "force", "f", false, "Force the removal of a running container (uses SIGKILL)")
	c.Aliases = []string{"remove"}
	return a.also(c, "container rm", "container remove", "rm")
}

func (a *app) rename() *cobra.Command {
	c := a.command("rename CONTAINER NEW_NAME", "Rename a container", exactArgs(2), func(ctx context.Context, args []string) error {
		from, to := strings.TrimSpace(args[0]), strings.TrimSpace(args[1])
		if from == "" || to == "" {
			return errors.New("Error: Neither old nor new names may be empty")
		}
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		if err := c.Containers.Rename(ctx, from, to); err != nil {
			_, _ = fmt.Fprintln(a.Err, err)
			return fmt.Errorf("Error: failed to rename container named %s", from)
		}
		return nil
	})
	return a.also(c, "container rename", "rename")
}

func (a *app) wait() *cobra.Command {
	c := a.command("wait CONTAINER [CONTAINER...]", "Block until one or more containers stop, then print their exit codes", minArgs(1), func(ctx context.Context, args []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		var errs []error
		for _, ref := range args {
			end, err := c.Containers.Wait(ctx, ref, "")
			if err != nil {
				errs = append(errs, err)
				continue
			}
			r, err := end()
			switch {
			case err != nil:
				errs = append(errs, err)
			case r.Error != nil:
				errs = append(errs, errors.New(r.Error.Message))
			default:
				_, _ = fmt.Fprintf(a.Out, "%d\n", r.StatusCode)
			}
		}
		return errors.Join(errs...)
	})
	return a.also(c, "container wait", "wait")
}

func (a *app) update() *cobra.Command {
	var r container.Resources
	var memory, reservation runflags.Bytes
	swap := runflags.Bytes{Unlimited: true}
	var cpus runflags.CPUs
	var kernel runflags.Bytes
	var restart string
	var pids int64
	var publishAdd, publishRemove []string
	var readBps, writeBps runflags.Throttles
	readIOps, writeIOps := runflags.Throttles{PerSecond: true}, runflags.Throttles{PerSecond: true}
	var c *cobra.Command
	c = a.command("update [OPTIONS] CONTAINER [CONTAINER...]", "Update configuration of one or more containers", minArgs(1), func(ctx context.Context, args []string) error {
		if c.Flags().NFlag() == 0 {
			return errors.New("you must provide one or more flags when using this command")
		}
		if c.Flags().Changed("kernel-memory") {
			return errors.New(`"--kernel-memory" is not supported: the kernel no longer has that limit`)
		}
		policy, err := runflags.RestartPolicy(restart)
		if err != nil {
			return err
		}
		r.Memory, r.MemoryReservation, r.MemorySwap, r.NanoCPUs = memory.Value, reservation.Value, swap.Value, int64(cpus)
		r.BlkioDeviceReadBps, r.BlkioDeviceWriteBps = readBps.List(), writeBps.List()
		r.BlkioDeviceReadIOps, r.BlkioDeviceWriteIOps = readIOps.List(), writeIOps.List()
		if c.Flags().Changed("pids-limit") {
			r.PidsLimit = &pids
		}
		ports, err := portsUpdate(publishAdd, publishRemove)
		if err != nil {
			return err
		}
		limits := c.Flags().NFlag() > countChanged(c, "publish-add", "publish-rm")
		return a.updateAll(ctx, args, container.UpdateConfig{Resources: r, RestartPolicy: policy}, limits, ports)
	})
	f := c.Flags()
	f.Uint16Var(&r.BlkioWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)")
	f.Int64Var(&r.CPUPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	f.Int64Var(&r.CPUQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	f.Int64Var(&r.CPURealtimePeriod, "cpu-rt-period", 0, "Limit the CPU real-time period in microseconds")
	f.Int64Var(&r.CPURealtimeRuntime, "cpu-rt-runtime", 0, "Limit the CPU real-time runtime in microseconds")
	f.StringVar(&r.CpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	f.StringVar(&r.CpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	f.Int64VarP(&r.CPUShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	f.VarP(&memory, "memory", "m", "Memory limit")
	f.Var(&reservation, "memory-reservation", "Memory soft limit")
	f.Var(&swap, "memory-swap", `Swap limit equal to memory plus swap: -1 to enable unlimited swap`)
	f.Var(&kernel, "kernel-memory", "Kernel memory limit (deprecated)")
	f.Lookup("kernel-memory").Hidden = true
	f.StringVar(&restart, "restart", "", "Restart policy to apply when a container exits")
	f.Int64Var(&pids, "pids-limit", 0, `Tune container pids limit (set -1 for unlimited)`)
	f.Var(&cpus, "cpus", "Number of CPUs")
	f.Var(&readBps, "device-read-bps", "Limit read rate (bytes per second) from a device")
	f.Var(&writeBps, "device-write-bps", "Limit write rate (bytes per second) to a device")
	f.Var(&readIOps, "device-read-iops", "Limit read rate (IO per second) from a device")
	f.Var(&writeIOps, "device-write-iops", "Limit write rate (IO per second) to a device")
	f.StringArrayVar(&publishAdd, "publish-add", nil, "Publish a further port ([[IP:]HOST:]PORT[/PROTO]) without a restart")
	f.StringArrayVar(&publishRemove, "publish-rm", nil, "Take a published port back ([[IP:]HOST:]PORT[/PROTO])")
	return a.also(c, "container update", "update")
}

func countChanged(c *cobra.Command, names ...string) (n int) {
	for _, name := range names {
		if c.Flags().Changed(name) {
			n++
		}
	}
	return n
}

// portsUpdate reads --publish-add and --publish-rm; nil where neither is given.
func portsUpdate(add, remove []string) (*api.PortsUpdate, error) {
	if len(add)+len(remove) == 0 {
		return nil, nil
	}
	var u api.PortsUpdate
	var err error
	if _, u.Add, err = runflags.Ports(add, nil); err != nil {
		return nil, fmt.Errorf("--publish-add: %w", err)
	}
	if _, u.Remove, err = runflags.Ports(remove, nil); err != nil {
		return nil, fmt.Errorf("--publish-rm: %w", err)
	}
	return &u, nil
}

// updateAll changes limits and policy where any are given, and ports where not nil.
func (a *app) updateAll(ctx context.Context, refs []string, u container.UpdateConfig, limits bool, ports *api.PortsUpdate) error {
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	var errs []error
	var warnings []string
	for _, ref := range refs {
		var r container.UpdateResponse
		var err error
		if limits {
			r, err = c.Containers.Update(ctx, ref, u)
		}
		if err == nil && ports != nil {
			_, err = c.Containers.UpdatePorts(ctx, ref, *ports)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_, _ = fmt.Fprintln(a.Out, ref)
		warnings = append(warnings, r.Warnings...)
	}
	if len(warnings) > 0 {
		_, _ = fmt.Fprintln(a.Out, strings.Join(warnings, "\n"))
	}
	return errors.Join(errs...)
}
