package bridge

import (
	"net/netip"

	"github.com/vishvananda/netlink"

	"muelle/internal/linux/ruleset"
	"muelle/internal/netdriver"
)

// cutFlows forgets the connections through withdrawn ports: their next packet finds
// no translation, and is refused by the host.
func cutFlows(ports []netdriver.Mapping) {
	filter := portFlows{}
	for _, p := range ports {
		for _, t := range p.Targets {
			filter[flowKey{ruleset.Protocol(p.Protocol), p.Host.Port(), t}] = true
		}
	}
	if len(filter) > 0 {
		forget(ports, filter) // nothing new gets through
	}
}

// flowKey is what identifies the flows of a published port: who asked for the
// host's port was answered by the target.
type flowKey struct {
	protocol uint8
	port     uint16
	target   netip.AddrPort
}

// portFlows matches tracked flows.
type portFlows map[flowKey]bool

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f portFlows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	answering, ok := netip.AddrFromSlice(flow.Reverse.SrcIP)
	if !ok {
		return false
	}
	return f[flowKey{flow.Forward.Protocol, flow.Forward.DstPort, netip.AddrPortFrom(answering.Unmap(), flow.Reverse.SrcPort)}]
}
