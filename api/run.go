package api

import (
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// RunRequest is the body of POST /muelle/v1/run: create, attach, start and wait in
// one request. The request asks for an upgrade (Connection: Upgrade, Upgrade: tcp).
// A failure before the start answers like any other error, with the header
// Muelle-Run-Stage saying which step failed ("create" or "start"). Otherwise the
// answer is 101 with the headers Muelle-Container-Id and Muelle-Warning (one per
// warning), and then the connection carries:
//
//   - from the server, frames of moby's stdcopy format: an eight-byte header (stream,
//     three zeroes, length as big-endian uint32) and that many bytes. Stream 1 is
//     stdout (all output with a terminal), 2 is stderr, RunFrame is the last one and
//     holds a RunResult as JSON;
//   - from the client, the raw bytes of standard input, ended by a half-close.
//
// Closing the connection detaches and leaves the container running. Resize and
// signals go by Docker's own endpoints.
type RunRequest struct {
	Name             string
	Platform         string
	Config           *container.Config
	HostConfig       *container.HostConfig
	NetworkingConfig *network.NetworkingConfig
	// Ranges are further published ports. Encoding makes them of many that follow one
	// another, decoding turns them into fields of Config and HostConfig.
	Ranges []PortRange `json:",omitempty"`
	// Detach starts the container and answers 200 with a container.CreateResponse.
	Detach bool
	// Stdin, Stdout and Stderr are the streams to carry.
	Stdin, Stdout, Stderr bool
	DetachKeys            string
}

// RunFrame is the stream number of the frame that ends a run.
const RunFrame = 3

// RunResult says how a run ended.
type RunResult struct {
	ExitCode int
	// Detached says that the detach keys were typed: the container goes on.
	Detached bool   `json:",omitempty"`
	Error    string `json:",omitempty"`
}

// Headers of an answer to POST /muelle/v1/run.
const (
	HeaderContainerID = "Muelle-Container-Id"
	HeaderWarning     = "Muelle-Warning"
	HeaderRunStage    = "Muelle-Run-Stage"
)
