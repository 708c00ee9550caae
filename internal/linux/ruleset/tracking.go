package ruleset

import (
	"golang.org/x/sys/unix"
)

// Tracking is whether the kernel follows a packet's connection: what a rule has taken out
// (notrack) has no state but "untracked", and no address of it is translated.
type Tracking uint8

// Perhaps: it hangs on what is not known of the packet.
const (
	Tracked Tracking = iota
	PerhapsTracked
	Untracked
)

// conntrackPriority is when the kernel begins to follow a packet: NF_IP_PRI_CONNTRACK. A
// rule that comes later takes out nothing.
const conntrackPriority = -200

// untrack is the statement notrack, or what iptables has for it.
func (w *walk) untrack(c *Chain, matches answer) {
	begins := w.hook == Ingress || (w.hook == Prerouting || w.hook == Output) && w.base0.Priority <= conntrackPriority
	if !begins || w.tracking == Untracked {
		return
	}
	w.untracker, w.untrackRule = c, c.describe(w.at)
	if matches == yes && !w.open && (w.hook == Ingress || w.base0.Priority != conntrackPriority) {
		w.tracking, w.untrackHangs = Untracked, hangs{}
		return
	}
	w.tracking = PerhapsTracked
	if w.hook != Ingress && w.base0.Priority == conntrackPriority {
		w.untrackHangs.on("the order of hooks of one priority")
	}
	w.untrackHangs.add(w.hangs)
	w.untrackHangs.add(w.openHangs)
}

// wasTracked notes, where an answer hangs on it, what it is that perhaps takes the packet out.
func (s *state) wasTracked() Tracking {
	if s.tracking == PerhapsTracked {
		s.hangs.add(s.untrackHangs)
	}
	return s.tracking
}

// bitUntracked of a connection's state in nftables; that of one whose beginning the kernel
// has not seen is invalid where the protocol tells.
const (
	bitInvalid   = 1 << 0
	bitUntracked = 1 << 6
)

// stateOf gives "ct state".
func (s *state) stateOf() data {
	switch s.wasTracked() {
	case Untracked:
		return known(native32(bitUntracked))
	case PerhapsTracked:
		return unknown(4)
	}
	return s.followed()
}

// followed is the state of a packet that the kernel follows. An answer to what was not
// followed begins a connection of its own, which TCP and SCTP do not begin so.
func (s *state) followed() data {
	if s.Reply && s.Opening != Tracked {
		switch {
		case s.Opening == PerhapsTracked || s.Protocol == 0:
			return unknown(4)
		case s.Protocol == unix.IPPROTO_UDP:
			return known(native32(stateNew))
		}
		return known(native32(bitInvalid))
	}
	if s.Established {
		return known(native32(stateEstablished))
	}
	return known(native32(stateNew))
}

// lost is what becomes of a packet whose address is to be translated, and is not.
func (s *state) lost(fate *Fate) {
	if !s.Translates || s.tracking == Tracked {
		return
	}
	if fate.By == nil || s.tracking == Untracked && fate.Passes {
		fate.By, fate.Rule = s.untracker, s.untrackRule+NotTranslated
	}
	fate.Dropped = true
	fate.Passes = fate.Passes && s.tracking == PerhapsTracked
	if s.tracking == PerhapsTracked {
		s.hung.add(s.untrackHangs)
	}
}

// NotTranslated follows a rule that drops nothing, but keeps a packet from being translated.
const NotTranslated = ", by which it is not tracked, so that no address is translated"

// destinationPriority is when destinations are translated: NF_IP_PRI_NAT_DST. Chains before
// see where the packet was sent to first.
const destinationPriority = -100

// place puts the packet as a chain sees it.
func (s *state) place(c *Chain) {
	hooked := s.hook == Ingress || (s.hook == Prerouting || s.hook == Output) && c.Priority < destinationPriority
	early := hooked && s.asked.Translated && !s.asked.Reply
	if early == s.early {
		return
	}
	s.early, s.network, s.transport = early, data{}, data{}
	if !early {
		s.Packet = s.asked
		return
	}
	s.Translated, s.ToLocal, s.Destination, s.DestinationPort = false, true, s.asked.Original, s.asked.OriginalPort
	s.Of.Destination, s.Of.DestinationPort = s.asked.Of.Original, s.asked.Of.OriginalPort
}
