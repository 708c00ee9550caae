// Command muelle-shim is the process beside each container; see internal/shim. It
// is started by muelled, by muelle-oci as a container's first process, and by itself
// as a container's init.
package main

import (
	"syscall"
	_ "unsafe" // for linkname

	"muelle/internal/shim"
	"muelle/internal/shimapi"
)

// runtimeArgs is what package os would give; linking that costs memory in every
// shim.
//
//go:linkname runtimeArgs os.runtime_args
func runtimeArgs() []string

func main() {
	args := runtimeArgs()
	if len(args) > 0 {
		switch args[0] {
		case shim.InitName:
			syscall.Exit(shim.Init(args, syscall.Environ()))
		case shimapi.StageName:
			syscall.Exit(shim.Stage(args))
		}
	}
	if err := shim.Run(args); err != nil {
		syscall.Write(2, []byte("muelle-shim: "+err.Error()+"\n"))
		syscall.Exit(1)
	}
}
