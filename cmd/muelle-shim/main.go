// Command muelle-shim is the process beside each container; see internal/shim. It
// is started by muelled only.
package main

import (
	"syscall"

	"muelle/internal/shim"
)

func main() {
	if err := shim.Run(); err != nil {
		syscall.Write(2, []byte("muelle-shim: "+err.Error()+"\n"))
		syscall.Exit(1)
	}
}
