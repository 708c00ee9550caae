package rtnl

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// dump asks the kernel for a list again when something was changed while it told it:
// the list then may lack entries or have one twice (NLM_F_DUMP_INTR). On a host where
// containers come and go that is no failure, unless it never ends.
func dump[T any](ask func() ([]T, error)) ([]T, error) {
	const patience = 100
	for range patience - 1 {
		if list, err := ask(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return ask()
}

func links() ([]netlink.Link, error) { return dump(netlink.LinkList) }

func addresses(link netlink.Link, family int) ([]netlink.Addr, error) {
	return dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, family) })
}

func routes(family int) ([]netlink.Route, error) {
	return dump(func() ([]netlink.Route, error) { return netlink.RouteList(nil, family) })
}
