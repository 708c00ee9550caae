package nft

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The kernel lists a set in pieces, each of which leaves out as many elements as were told
// before. After a transaction it may still be moving those of a hash table to a larger
// one, which no generation counts; then they have another order, and as many are missing as
// are told twice (nft_rhash_walk of net/netfilter/nft_set_hash.c). So a list in which one is
// twice is read again.
const (
	movesFor  = 10 * time.Second
	movesLook = time.Millisecond
)

// steady lists until nothing is in the list twice.
func steady[T any](list func() ([]T, error), elements func(T, func(key string))) ([]T, error) {
	for deadline := time.Now().Add(movesFor); ; time.Sleep(movesLook) { // the kernel tells nobody when it has done
		all, err := list()
		if err != nil {
			return nil, err
		}
		if len(all) < 2 {
			return all, nil // of one piece
		}
		seen, twice := map[string]bool{}, false
		for _, one := range all {
			elements(one, func(key string) {
				twice = twice || seen[key]
				seen[key] = true
			})
		}
		if !twice {
			return all, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("the kernel does not come to rest: %w", errdefs.ErrUnavailable)
		}
	}
}

// SetElements gives all elements of a set, each once. errdefs.ErrUnavailable: it did not
// come to rest.
func SetElements(c *nftables.Conn, s *nftables.Set) ([]nftables.SetElement, error) {
	return steady(func() ([]nftables.SetElement, error) { return c.GetSetElements(s) }, func(e nftables.SetElement, tell func(string)) {
		tell(elementKey(e.Key, e.KeyEnd, e.IntervalEnd))
	})
}

// ListElements is as SetElements, in the kernel's messages (NFT_MSG_NEWSETELEM).
func ListElements(conn *netlink.Conn, family byte, table, set string) ([]netlink.Message, error) {
	ask := Message(unix.NFT_MSG_GETSETELEM, netlink.Dump, family, append(TextAttribute(unix.NFTA_SET_ELEM_LIST_TABLE, table), TextAttribute(unix.NFTA_SET_ELEM_LIST_SET, set)...))
	return steady(func() ([]netlink.Message, error) { return conn.Execute(ask) }, func(m netlink.Message, tell func(string)) {
		EachAttribute(Body(m)[unix.NFTA_SET_ELEM_LIST_ELEMENTS], func(_ uint16, b []byte) {
			e := Attributes(b)
			flags := e[unix.NFTA_SET_ELEM_FLAGS]
			ends := len(flags) == 4 && binary.BigEndian.Uint32(flags)&unix.NFT_SET_ELEM_INTERVAL_END != 0
			tell(elementKey(e[unix.NFTA_SET_ELEM_KEY], e[keyEnd], ends))
		})
	})
}

// NFTA_SET_ELEM_KEY_END of linux/netfilter/nf_tables.h.
const keyEnd = 10

// elementKey tells the elements of one set apart, whose keys are all of one length.
func elementKey(key, end []byte, ends bool) string {
	if ends {
		return string(key) + string(end) + "end"
	}
	return string(key) + string(end)
}
