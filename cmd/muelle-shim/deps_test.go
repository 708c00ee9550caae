package main_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// linked is everything that the shim may link beside the packages of Go's runtime.
// One shim runs beside each container: a package costs memory in all of them.
// Absent by intent: os, fmt, net, net/netip, net/http, encoding/json, os/exec, os/signal, log.
var linked = []string{
	"bytes", "cmp", "encoding/binary", "errors", "io", "iter", "math", "math/bits", "path", "reflect", "runtime",
	"slices", "sort", "strconv", "strings", "sync", "sync/atomic", "syscall", "time", "unicode", "unicode/utf8",
	"unsafe",
	"golang.org/x/sys/unix",
	"muelle/internal/linux/mountattr", "muelle/internal/linux/spawn", "muelle/internal/linux/thread", "muelle/internal/logdriver", "muelle/internal/logdriver/jsonfile", "muelle/internal/logdriver/remote",
	"muelle/internal/shim", "muelle/internal/shimapi", "muelle/cmd/muelle-shim",
}

func TestLinkedPackages(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "muelle/cmd/muelle-shim").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for _, p := range linked {
		allowed[p] = true
	}
	var extra []string
	for p := range strings.FieldsSeq(string(out)) {
		if !allowed[p] && !strings.Contains(p, "internal/") {
			extra = append(extra, p)
		}
		if strings.HasPrefix(p, "muelle/") && !allowed[p] {
			extra = append(extra, p)
		}
	}
	if d := cmp.Diff([]string(nil), extra); d != "" {
		t.Errorf("the shim links packages that are not on the list (-want +got):\n%s", d)
	}
}
