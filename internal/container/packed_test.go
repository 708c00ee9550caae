package container_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/internal/container"
	"muelle/internal/meta"
)

// A record and a state with many ports are short on the disk, and read as they were; those
// with few are written for older programs.
func TestPortsOnDisk(t *testing.T) {
	for _, n := range []int{0, 3, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			exposed, asked, shown := network.PortSet{}, network.PortMap{}, network.PortMap{}
			for i := range n {
				p, _ := network.PortFrom(uint16(1+i), network.TCP)
				host := fmt.Sprint(30000 + i)
				exposed[p], asked[p] = struct{}{}, []network.PortBinding{{HostPort: host}}
				shown[p] = []network.PortBinding{{HostIP: netip.IPv4Unspecified(), HostPort: host}, {HostIP: netip.IPv6Unspecified(), HostPort: host}}
			}
			local := network.MustParsePort("9999/udp")
			exposed[local], asked[local] = struct{}{}, []network.PortBinding{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "9999"}}
			exposed[network.MustParsePort("7777/tcp")] = struct{}{}
			shown[network.MustParsePort("7777/tcp")] = nil
			onDisk(t, container.Record{ID: "a", Config: &ctypes.Config{ExposedPorts: exposed}, HostConfig: &ctypes.HostConfig{PortBindings: asked}}, n < 1000)
			onDisk(t, container.State{Ports: shown}, n < 1000)
		})
	}
}

func onDisk[T any](t *testing.T, want T, plain bool) {
	t.Helper()
	dir := t.TempDir()
	d := meta.At[T](dir, 2)
	if err := d.Save("one", &want, false); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "one.json"))
	if err != nil || len(text) > 6000 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if _, err := meta.At[T](dir, 1).Load("one"); (err == nil) != plain {
		t.Errorf("an older program: %v", err)
	}
	got, err := d.Load("one")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, network.Port{})); diff != "" {
		t.Error(diff)
	}
}
