//go:build root

package nft_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/netns/netnstest"
	"muelle/internal/linux/nft"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// TestLine: elements come and go in one transaction, more than a message holds too, and
// one that fails changes nothing and does not spoil the next.
func TestLine(t *testing.T) {
	c, err := nft.New()
	if err != nil {
		t.Fatal(err)
	}
	table := c.AddTable(&nftables.Table{Name: "line", Family: nftables.TableFamilyBridge})
	names := &nftables.Set{Table: table, Name: "names", KeyType: nftables.TypeIFName}
	ports := &nftables.Set{Table: table, Name: "ports", KeyType: nftables.TypeInetService}
	for _, s := range []*nftables.Set{names, ports} {
		if err := c.AddSet(s, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.DelTable(table)
		if err := c.Flush(); err != nil {
			t.Error(err)
		}
	})
	l, err := nft.OpenLine()
	if err != nil {
		t.Fatal(err)
	}
	count := func(s *nftables.Set) int {
		list, err := nft.SetElements(c, s)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	var many [][]byte
	for i := range 1500 {
		many = append(many, nft.Name(fmt.Sprintf("mue%d", i)))
	}
	missing := &nftables.Set{Table: table, Name: "missing"}
	for _, tc := range []struct {
		name         string
		how          func([]nft.Elements) error
		list         []nft.Elements
		err          error
		names, ports int
	}{
		{"nothing", l.Add, []nft.Elements{{Set: names}}, nil, 0, 0},
		{"two sets", l.Add, []nft.Elements{{Set: names, Keys: many}, {Set: ports, Keys: [][]byte{{0, 80}}}}, nil, 1500, 1},
		{"again", l.Add, []nft.Elements{{Set: ports, Keys: [][]byte{{0, 80}}}}, nil, 1500, 1},
		{"no such set", l.Add, []nft.Elements{{Set: ports, Keys: [][]byte{{0, 81}}}, {Set: missing, Keys: many}}, unix.ENOENT, 1500, 1},
		{"one is not there", l.Delete, []nft.Elements{{Set: names, Keys: many[:3]}, {Set: ports, Keys: [][]byte{{0, 80}, {0, 81}}}}, unix.ENOENT, 1500, 1},
		{"delete", l.Delete, []nft.Elements{{Set: names, Keys: many[1:]}, {Set: ports, Keys: [][]byte{{0, 80}}}}, nil, 1, 0},
	} {
		if err := tc.how(tc.list); !errors.Is(err, tc.err) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.err)
		}
		if n, p := count(names), count(ports); n != tc.names || p != tc.ports {
			t.Errorf("%s: %d names and %d ports, want %d and %d", tc.name, n, p, tc.names, tc.ports)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Add([]nft.Elements{{Set: ports, Keys: [][]byte{{0, 80}}}}); err == nil {
		t.Error("a closed line changed something")
	}
}
