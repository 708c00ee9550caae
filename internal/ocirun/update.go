package ocirun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// limits are update's flags by name; each sets one value of the document.
func limits(r *specs.LinuxResources) map[string]func(string) error {
	r.CPU, r.Memory, r.BlockIO = &specs.LinuxCPU{}, &specs.LinuxMemory{}, &specs.LinuxBlockIO{}
	return map[string]func(string) error{
		"blkio-weight": func(v string) error {
			n, err := strconv.ParseUint(v, 10, 16)
			w := uint16(n)
			r.BlockIO.Weight = &w
			return err
		},
		"cpu-period": unsigned(&r.CPU.Period), "cpu-quota": signed(&r.CPU.Quota), "cpu-burst": unsigned(&r.CPU.Burst),
		"cpu-share": unsigned(&r.CPU.Shares), "cpu-rt-period": unsigned(&r.CPU.RealtimePeriod), "cpu-rt-runtime": signed(&r.CPU.RealtimeRuntime),
		"cpu-idle": signed(&r.CPU.Idle), "cpuset-cpus": text(&r.CPU.Cpus), "cpuset-mems": text(&r.CPU.Mems),
		"memory": size(&r.Memory.Limit), "memory-reservation": size(&r.Memory.Reservation), "memory-swap": size(&r.Memory.Swap),
		"kernel-memory": ignored, "kernel-memory-tcp": ignored,
		"pids-limit": func(v string) error {
			n, err := strconv.ParseInt(v, 10, 64)
			r.Pids = &specs.LinuxPids{Limit: &n}
			return err
		},
	}
}

func unsigned(to **uint64) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseUint(v, 10, 64)
		*to = &n
		return err
	}
}

func signed(to **int64) func(string) error {
	return func(v string) error {
		n, err := strconv.ParseInt(v, 10, 64)
		*to = &n
		return err
	}
}

func text(to *string) func(string) error {
	return func(v string) error { *to = v; return nil }
}

func size(to **int64) func(string) error {
	return func(v string) error {
		if v == "-1" {
			n := int64(-1)
			*to = &n
			return nil
		}
		n, err := units.RAMInBytes(v)
		*to = &n
		return err
	}
}

// ignored is for limits that the kernel does not have any more, as in runc.
func ignored(string) error { return nil }

func (a *App) update(args []string) error {
	f := flags()
	res := &specs.LinuxResources{}
	for name, set := range limits(res) {
		f.Func(name, "", set)
	}
	var file string
	for _, n := range []string{"resources", "r"} {
		f.StringVar(&file, n, "", "")
	}
	if err := parse(f, args, 1, 1); err != nil {
		return err
	}
	r, err := a.open(f.Arg(0))
	if err != nil {
		return err
	}
	defer r.close()
	if status, err := r.status(); err != nil {
		return err
	} else if status == specs.StateStopped {
		return errors.New("container not running")
	}
	if file != "" {
		if res, err = a.readResources(file); err != nil {
			return err
		}
	}
	// Devices are what a container was created with: an update has none.
	res.Devices = nil
	g, err := r.group()
	if err != nil {
		return err
	}
	return g.Update(res)
}

func (a *App) readResources(file string) (*specs.LinuxResources, error) {
	in := io.Reader(a.Stdin)
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	res := &specs.LinuxResources{}
	if err := json.NewDecoder(in).Decode(res); err != nil {
		return nil, fmt.Errorf("read resources: %w", err)
	}
	return res, nil
}
