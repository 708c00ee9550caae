//go:build vm

package vm_test

import (
	"context"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

// interrupted ends with the first SIGINT or SIGTERM: the machine is then stopped and the
// test cleans up after itself.
var interrupted context.Context

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var stop context.CancelFunc
	interrupted, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A kill leaves disks of some hundred megabytes: here, where the next run finds them.
	temp, err := filepath.Abs("../../bin/vm/tmp")
	if err == nil {
		err = os.RemoveAll(temp)
	}
	if err == nil {
		err = os.MkdirAll(temp, 0o755)
	}
	if err == nil {
		err = os.Setenv("TMPDIR", temp)
	}
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(temp)
	return m.Run()
}
