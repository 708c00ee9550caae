//go:build root

package network_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	mobynet "github.com/moby/moby/api/types/network"
)

// BenchmarkPrepare pauses between runs, as people do: a hot loop hides what an
// idle kernel costs. It reports medians.
func BenchmarkPrepare(b *testing.B) {
	for _, bc := range []struct {
		name  string
		ports int
		net   string
	}{{"bridge", 0, "bridge"}, {"user-defined", 0, "front"}, {"a published port", 1, "bridge"}, {"a thousand ports", 1000, "bridge"}} {
		b.Run(bc.name, func(b *testing.B) {
			w := newWorld(b)
			w.network("front")
			w.start(spec("first", bc.net))
			var prepare, release []time.Duration
			for range b.N {
				time.Sleep(200 * time.Millisecond)
				s := spec("c", bc.net)
				s.Ports = mobynet.PortMap{}
				for i := range bc.ports {
					p, _ := mobynet.PortFrom(uint16(10000+i), mobynet.TCP)
					s.Ports[p] = []mobynet.PortBinding{{HostPort: fmt.Sprint(10000 + i)}}
				}
				start := time.Now()
				sb, err := w.Prepare(context.Background(), s)
				if err != nil {
					b.Fatal(err)
				}
				prepare = append(prepare, time.Since(start))
				sb.Close()
				start = time.Now()
				if err := w.Release(context.Background(), sb.ID); err != nil {
					b.Fatal(err)
				}
				release = append(release, time.Since(start))
			}
			slices.Sort(prepare)
			slices.Sort(release)
			b.ReportMetric(float64(prepare[len(prepare)/2].Microseconds())/1000, "ms/prepare")
			b.ReportMetric(float64(prepare[0].Microseconds())/1000, "ms/best")
			b.ReportMetric(float64(release[len(release)/2].Microseconds())/1000, "ms/release")
			b.ReportMetric(0, "ns/op")
		})
	}
}
