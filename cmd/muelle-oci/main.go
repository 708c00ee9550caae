// Command muelle-oci is an OCI runtime; see internal/ocirun. Built by make it is a link to
// muelle-shim: one file that is this program and carries the shim (see internal/shimfile),
// which this program gives way to when it is called by that name. So they are one file,
// and what this one links (JSON, control groups, seccomp) costs no container's shim the
// 400 KiB that it would take of it in one program. A container's first process is the
// shim's program, too. Built by go build it finds the shim beside itself.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"muelle/api"
	"muelle/internal/ocirun"
	"muelle/internal/shimapi"
)

func main() {
	name := ""
	if len(os.Args) > 0 {
		name = filepath.Base(os.Args[0])
	}
	if name == shimapi.BinaryName {
		fmt.Fprintln(os.Stderr, "muelle-shim:", ocirun.BecomeShim(os.Args, os.Environ()))
		os.Exit(1)
	}
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
	a := &ocirun.App{Version: api.Version, Name: name, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	os.Exit(a.Main(os.Args[min(1, len(os.Args)):]))
}
