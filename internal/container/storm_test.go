package container_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/container"
	"muelle/internal/runtime"
)

// TestStorm has many clients do everything to few containers at once: each answer
// is a success or a known class, nothing hangs, and nothing is left.
func TestStorm(t *testing.T) {
	b := newBench(t)
	b.rt.exec = func(*specs.Process) (runtime.Exit, string) { return runtime.Exit{}, "" }
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	zero := 0
	op := func(r *rand.Rand) error {
		name := fmt.Sprintf("box%d", r.IntN(4))
		switch r.IntN(10) {
		case 0, 1:
			policies := []ctypes.RestartPolicyMode{"no", "always", "on-failure"}
			hc := &ctypes.HostConfig{RestartPolicy: ctypes.RestartPolicy{Name: policies[r.IntN(3)]}}
			hc.AutoRemove = hc.RestartPolicy.IsNone() && r.IntN(2) == 0
			_, err := b.Create(ctx, container.CreateOptions{Name: name, Config: &ctypes.Config{Image: "box"}, HostConfig: hc})
			return err
		case 2, 3:
			return b.Start(ctx, name)
		case 4:
			return b.Stop(ctx, name, container.StopOptions{Timeout: &zero})
		case 5:
			return b.Restart(ctx, name, container.StopOptions{Timeout: &zero})
		case 6:
			return b.Kill(ctx, name, "")
		case 7:
			return b.Remove(ctx, name, container.RemoveOptions{Force: true, Volumes: true})
		case 8:
			id, err := b.ID(name)
			if err != nil {
				return err
			}
			if task := b.rt.task(id); task != nil {
				task.finish(runtime.Exit{Code: r.IntN(2)})
			}
			return nil
		default:
			x, err := b.ExecCreate(ctx, name, ctypes.ExecCreateRequest{Cmd: []string{"x"}})
			if err == nil {
				err = b.ExecStart(ctx, x, container.ExecStartOptions{})
			}
			return err
		}
	}
	var wg sync.WaitGroup
	for seed := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, 1))
			for range 200 {
				err := op(r)
				known := err == nil || errdefs.IsConflict(err) || errdefs.IsNotFound(err) || errdefs.IsNotModified(err)
				if !known {
					t.Errorf("unexpected: %v", err)
				}
			}
		})
	}
	wg.Wait()
	list, err := b.List(ctx, container.ListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		err := b.Remove(ctx, c.ID, container.RemoveOptions{Force: true, Volumes: true})
		if err != nil && !errdefs.IsNotFound(err) {
			t.Error(err)
		}
	}
	b.close()
	b.leftovers()
	b.open()
}
