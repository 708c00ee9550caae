// Package api is what travels between Muelle's clients and its daemon beyond
// Docker's own API: the paths below /muelle/v1/ and their documents. Docker's wire
// types come from github.com/moby/moby/api and are not repeated here.
package api

// Versions of Docker's Engine API that the daemon serves.
const (
	DefaultVersion = "1.56"
	MinVersion     = "1.24"
)

// Prefix of everything that is not Docker's.
const Prefix = "/muelle/v1"

// DefaultSocket is where the daemon listens unless told otherwise.
const DefaultSocket = "/run/muelle/muelle.sock"

// Default places of the daemon.
const (
	DefaultDataRoot   = "/var/lib/muelle"
	DefaultExecRoot   = "/run/muelle"
	DefaultConfigFile = "/etc/muelle/daemon.json"
)

// DaemonCgroup is the control group that the command line starts the daemon in, and
// that the daemon removes when it ends.
const DaemonCgroup = "muelled"

// Version of Muelle itself, set by the linker from the file VERSION.
var Version = "dev"
