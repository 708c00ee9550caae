package api

// CaptureSummary says what became of POST /muelle/v1/containers/NAME/capture: in the
// answer's trailers Muelle-Packets and Muelle-Dropped. The answer's body is a file of the
// classic pcap format (Ethernet, nanoseconds). Query: interface (a name inside the
// container, or a network), filter (of tcpdump's language), snaplen, count, host (in the
// host's namespace, too), until=eof (the capture ends with the request's body). The header
// Muelle-Names is a JSON object of container names by address.
type CaptureSummary struct {
	Packets int
	// Dropped are those that the reader was too slow for.
	Dropped int
}

// Headers and trailers of a capture.
const (
	CaptureNames   = "Muelle-Names"
	CapturePackets = "Muelle-Packets"
	CaptureDropped = "Muelle-Dropped"
	// CaptureMedia is the answer's Content-Type.
	CaptureMedia = "application/vnd.tcpdump.pcap"
	// CaptureFilterMost is how many bytes a filter may have.
	CaptureFilterMost = 4096
)
