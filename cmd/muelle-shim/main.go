// Command muelle-shim is the process beside each container; see internal/shim. It
// is started by muelled only, and by itself as a container's init.
package main

import (
	"syscall"
	_ "unsafe" // for linkname

	"muelle/internal/shim"
)

// runtimeArgs is what package os would give; linking that costs memory in every
// shim.
//
//go:linkname runtimeArgs os.runtime_args
func runtimeArgs() []string

func main() {
	if args := runtimeArgs(); len(args) > 0 && args[0] == shim.InitName {
		syscall.Exit(shim.Init(args, syscall.Environ()))
	}
	if err := shim.Run(); err != nil {
		syscall.Write(2, []byte("muelle-shim: "+err.Error()+"\n"))
		syscall.Exit(1)
	}
}
