// Command muelle-oci is an OCI runtime; see internal/ocirun. It is a program of its
// own and not a link to the shim: what it links (JSON, control groups, seccomp)
// would cost each running container's shim 175 KiB of PSS and a quarter of a
// millisecond. The container's first process is the shim's binary, found beside it.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/ocirun"
)

func main() {
	// Out of reach for what runs in a container that an exec joins: until it is replaced by
	// the program, its descriptors are the host's (CVE-2016-9962).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "muelle-oci: hide from containers:", err)
		os.Exit(1)
	}
	// Most calls last a few milliseconds and collect nothing; what goes on is collected at
	// the limit.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(32 << 20)
	a := &ocirun.App{Version: api.Version, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(a.Main(os.Args[1:]))
}
