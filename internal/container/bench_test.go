package container_test

import (
	"testing"

	ctypes "github.com/moby/moby/api/types/container"

	"muelle/internal/container"
	"muelle/internal/runtime"
)

// BenchmarkRun is what containers that go when they end cost beside the runtime,
// the network and the image.
func BenchmarkRun(b *testing.B) {
	s := newBench(b)
	s.rt.end = &runtime.Exit{}
	for b.Loop() {
		r, err := s.Create(b.Context(), container.CreateOptions{Config: &ctypes.Config{Image: "box"}, HostConfig: &ctypes.HostConfig{AutoRemove: true}})
		if err != nil {
			b.Fatal(err)
		}
		wait, err := s.Wait(b.Context(), r.ID, ctypes.WaitConditionRemoved)
		if err == nil {
			err = s.Start(b.Context(), r.ID)
		}
		if err == nil {
			_, err = wait(b.Context())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is what two hundred stopped containers cost when the daemon starts.
func BenchmarkOpen(b *testing.B) {
	s := newBench(b)
	for range 200 {
		s.create(container.CreateOptions{})
	}
	for b.Loop() {
		s.reopen()
	}
}
