package runtimetest

import (
	"context"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	engine "muelle/internal/runtime"
)

// Bench measures starts and execs with an idle pause between them, because an idle
// kernel answers some calls later than a busy one.
func Bench(b *testing.B, env Env, pause time.Duration) {
	s := &suite{env: env, rootfs: MakeRootfs(b)}
	root := b.TempDir()
	r, down := env.New(b, root)
	defer down()
	h := &host{t: b, s: s, root: root, r: r}
	b.Run("start to exit", func(b *testing.B) {
		measure(b, pause, func() time.Duration {
			c := h.container("true")
			c.NetNS = newNetNS(b)
			defer c.NetNS.Close()
			began := time.Now()
			task, err := r.Start(context.Background(), c)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := task.Wait(context.Background()); err != nil {
				b.Fatal(err)
			}
			took := time.Since(began)
			if err := task.Delete(context.Background()); err != nil {
				b.Fatal(err)
			}
			return took
		})
	})
	b.Run("delete", func(b *testing.B) {
		measure(b, pause, func() time.Duration {
			task, err := r.Start(context.Background(), h.container("true"))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := task.Wait(context.Background()); err != nil {
				b.Fatal(err)
			}
			began := time.Now()
			if err := task.Delete(context.Background()); err != nil {
				b.Fatal(err)
			}
			return time.Since(began)
		})
	})
	b.Run("50 by 8", func(b *testing.B) {
		measure(b, pause, func() time.Duration {
			var all []*engine.Container
			for range 50 {
				all = append(all, h.container("true"))
			}
			next := make(chan *engine.Container)
			var wg sync.WaitGroup
			began := time.Now()
			for range 8 {
				wg.Go(func() {
					for c := range next {
						task, err := r.Start(context.Background(), c)
						if err != nil {
							b.Error(err)
							continue
						}
						task.Wait(context.Background())
						if err := task.Delete(context.Background()); err != nil {
							b.Error(err)
						}
					}
				})
			}
			for _, c := range all {
				next <- c
			}
			close(next)
			wg.Wait()
			return time.Since(began)
		})
	})
	b.Run("exec to exit", func(b *testing.B) {
		c := h.container("sleep", "1000")
		task, err := r.Start(context.Background(), c)
		if err != nil {
			b.Fatal(err)
		}
		defer task.Delete(context.Background())
		p := execOf(c, "true")
		measure(b, pause, func() time.Duration {
			began := time.Now()
			e, err := task.Exec(context.Background(), p, engine.ExecOptions{ID: newID()})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := e.Wait(context.Background()); err != nil {
				b.Fatal(err)
			}
			return time.Since(began)
		})
	})
}

func measure(b *testing.B, pause time.Duration, once func() time.Duration) {
	var all []time.Duration
	for range b.N {
		time.Sleep(pause)
		all = append(all, once())
	}
	slices.Sort(all)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(all[0]), "min-ms")
	b.ReportMetric(ms(all[len(all)/2]), "median-ms")
	b.ReportMetric(ms(all[len(all)*95/100]), "p95-ms")
}

// newNetNS makes a network namespace as the daemon does.
func newNetNS(b testing.TB) *os.File {
	type result struct {
		f   *os.File
		err error
	}
	ch := make(chan result)
	go func() {
		// The thread is thrown away with its namespace.
		runtime.LockOSThread()
		ns, err := netns.New()
		ch <- result{os.NewFile(uintptr(ns), "netns"), err}
	}()
	r := <-ch
	if r.err != nil {
		b.Fatal(r.err)
	}
	return r.f
}
