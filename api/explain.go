package api

// ExplainRequest is the body of POST /muelle/v1/explain: may Source reach Target, and
// if not, at which hop does it end? Both are SERVICE (of Project), PROJECT/SERVICE, a
// container's name or id, host, outside, or a name or address of the world; Target may
// end in :PORT or :PORT/udp.
type ExplainRequest struct {
	Source, Target string
	// Project is the one whose services are meant by a name alone; empty: none.
	Project string `json:",omitempty"`
}

// Explanation is the answer.
type Explanation struct {
	Source, Target string
	Port           uint16 `json:",omitempty"`
	Proto          string
	Reachable      bool
	// Hops in the order in which a connection takes them; the first that is broken is
	// where it ends. What lies behind it is told as far as it could be looked at.
	Hops []ExplainHop
}

// States of an ExplainHop.
const (
	HopOK      = "ok"
	HopBroken  = "broken"
	HopWarning = "warning"
	// HopUnknown: it could not be tried.
	HopUnknown = "unknown"
)

// ExplainHop is one step of the way.
type ExplainHop struct {
	// Hop is source, target, name, address, network, policy, route, port, listener or answer.
	Hop   string
	State string
	What  string
	// Evidence is what the sentence rests on.
	Evidence []WhyEvidence `json:",omitempty"`
	// Do is what mends it: sentences and commands.
	Do []string `json:",omitempty"`
	// YAML are lines for the project's Compose file, and File its path.
	YAML string `json:",omitempty"`
	File string `json:",omitempty"`
}

// Broken gives the first hop that is broken, or nil.
func (e *Explanation) Broken() *ExplainHop {
	for i := range e.Hops {
		if e.Hops[i].State == HopBroken {
			return &e.Hops[i]
		}
	}
	return nil
}
