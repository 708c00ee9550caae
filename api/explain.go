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
	// Reachable: it is, whoever of Source connects. Depends: no hop is broken, and one of
	// the state HopDepends leaves it open; then Reachable is false.
	Reachable bool
	Depends   bool `json:",omitempty"`
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
	// HopDepends: some get through and others do not, or it hangs on what cannot be known.
	HopDepends = "depends"
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
	// Sources tell, of a hop of the state HopDepends, who of those outside gets through.
	Sources *Sources `json:",omitempty"`
}

// Open gives the first hop that leaves it open, or nil.
func (e *Explanation) Open() *ExplainHop {
	for i := range e.Hops {
		if e.Hops[i].State == HopDepends {
			return &e.Hops[i]
		}
	}
	return nil
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
