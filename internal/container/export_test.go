package container

// What the tests of the parts see of them.
var (
	WantsRestart = wantsRestart
	StatusText   = statusText
	ProbeOf      = probeOf
	StartError   = startError
)

type (
	Backoff = backoff
	Probe   = probe
)

var (
	BackoffNext = (*backoff).next
	ProbeNext   = (*probe).next
	ProbeWait   = (*probe).wait
)
