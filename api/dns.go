package api

import "time"

// DNSQuery is one lookup of a container, as GET /muelle/v1/containers/NAME/dns gives
// it, one JSON object a line, oldest first: what was asked of 127.0.0.11, and what
// became of it.
type DNSQuery struct {
	At time.Time
	// Name as it was asked for, in lower case, without the trailing dot.
	Name string
	// Type is that of the record: "A", "AAAA", "PTR", "SRV", …
	Type string
	// Proto is "udp" or "tcp".
	Proto string
	// Code is the answer's: "NOERROR", "NXDOMAIN", "SERVFAIL", …; empty where none was given.
	Code string
	// Answer is the records' data, the first eight of them.
	Answer []string `json:",omitempty"`
	// From is who knew: "network NAME", "host", or a name server's address.
	From string `json:",omitempty"`
	Took time.Duration
	// Reason says, where there is no address to connect to, why.
	Reason string `json:",omitempty"`
}

// Failed tells whether the asker got nothing that it can use.
func (q *DNSQuery) Failed() bool { return q.Code != "NOERROR" }
