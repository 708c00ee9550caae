// Command join makes one file of the programs muelle-oci and muelle-shim of one folder:
// `join FROM TO` writes TO/muelle-shim, with TO/muelle-oci as a link to it. Both are
// replaced at once, whoever runs them meanwhile; the same programs change nothing.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"muelle/internal/shimfile"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: join FROM TO")
		os.Exit(2)
	}
	if err := join(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "join:", err)
		os.Exit(1)
	}
}

func join(from, to string) error {
	oci, err := os.ReadFile(filepath.Join(from, "muelle-oci"))
	if err != nil {
		return err
	}
	shim, err := os.ReadFile(filepath.Join(from, "muelle-shim"))
	if err != nil {
		return err
	}
	joined, err := shimfile.Join(oci, shim)
	if err != nil {
		return err
	}
	file, link := filepath.Join(to, "muelle-shim"), filepath.Join(to, "muelle-oci")
	if old, err := os.ReadFile(file); err != nil || !bytes.Equal(old, joined) {
		err := replace(file, func(temporary string) error { return os.WriteFile(temporary, joined, 0o755) })
		if err != nil {
			return err
		}
	}
	if same(file, link) {
		return nil
	}
	// A hard link, because `go build -o TO ./cmd/...` would write through a symbolic one.
	return replace(link, func(temporary string) error { return os.Link(file, temporary) })
}

func same(a, b string) bool {
	x, err1 := os.Lstat(a)
	y, err2 := os.Lstat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}

func replace(path string, write func(temporary string) error) error {
	temporary := path + ".new"
	if err := os.RemoveAll(temporary); err != nil {
		return err
	}
	err := write(temporary)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(temporary))
	}
	return nil
}
