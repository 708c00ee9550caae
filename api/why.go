package api

import "time"

// WhyReport is the answer of GET /muelle/v1/why/NAME: what happened to a container,
// most important finding first.
type WhyReport struct {
	ID, Name string
	// Status is that of Docker's State.Status; At, when it came to that.
	Status   string
	ExitCode int
	At       time.Time    `json:",omitzero"`
	Findings []WhyFinding // never empty
}

// WhyFinding is one cause, in whole sentences.
type WhyFinding struct {
	// Cause is a word for programs, as "oom" or "missing-interpreter".
	Cause string
	// Probably: the evidence is indirect.
	Probably bool `json:",omitempty"`
	What     string
	Evidence []WhyEvidence `json:",omitempty"`
	// Do is what mends it: sentences, commands and lines of configuration.
	Do []string `json:",omitempty"`
}

// WhyEvidence is what a finding rests on.
type WhyEvidence struct {
	Source string // "state", "log", "kernel log", "cgroup", "image", …
	Text   string
}
