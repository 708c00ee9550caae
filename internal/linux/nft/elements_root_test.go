//go:build root

package nft_test

import (
	"fmt"
	"testing"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/nft"
)

// TestElementsOfATableThatGrows: right after a transaction the kernel is still moving the
// elements, and all are told all the same.
func TestElementsOfATableThatGrows(t *testing.T) {
	c, err := nft.New()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const many = 1000
	elements := make([]nftables.SetElement, many)
	for i := range elements {
		elements[i].Key = nft.Name(fmt.Sprint("mue", i))
	}
	for range 50 {
		table := c.AddTable(&nftables.Table{Name: "grows", Family: nftables.TableFamilyBridge})
		sets := [2]*nftables.Set{{Table: table, Name: "one", KeyType: nftables.TypeIFName}, {Table: table, Name: "two", KeyType: nftables.TypeIFName}}
		for _, s := range sets {
			if err := c.AddSet(s, elements); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		keys := map[string]bool{}
		list, err := nft.ListElements(conn, unix.NFPROTO_BRIDGE, "grows", "one")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			nft.EachAttribute(nft.Body(m)[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, b []byte) {
				keys[string(nft.Attributes(b)[unix.NFTA_SET_ELEM_KEY])] = true
			})
		}
		again, err := nft.SetElements(c, sets[1])
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) != many || len(again) != many {
			t.Errorf("%d and %d elements are told of %d", len(keys), len(again), many)
		}
		c.DelTable(table)
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}
