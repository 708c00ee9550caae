package container

// What the tests of the parts see of them.
var (
	WantsRestart = wantsRestart
	StatusText   = statusText
	CheckOf      = checkOf
	StartError   = startError
)

type (
	Backoff     = backoff
	HealthCheck = healthCheck
	Record      = record
	State       = state
)

var (
	BackoffNext = (*backoff).next
	HealthNext  = (*healthCheck).next
	HealthWait  = (*healthCheck).wait
)
