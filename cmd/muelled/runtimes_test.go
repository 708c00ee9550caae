package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/runtime/outside"
)

func TestRuntimes(t *testing.T) {
	program := filepath.Join(t.TempDir(), "runc")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, flag, file, def string
		want                  runtimes
		err                   string
	}{
		{name: "none", def: "muelle"},
		{name: "none, Docker's name", def: "runc"},
		{name: "flag", flag: "x=" + program, want: runtimes{"x": {Path: program}}},
		{name: "file", file: `{"y":{"path":"` + program + `","runtimeArgs":["--debug"]}}`, def: "y", want: runtimes{"y": outside.Binary{Path: program, Args: []string{"--debug"}}}},
		{name: "both add up", flag: "x=" + program, file: `{"y":{"path":"` + program + `"}}`, want: runtimes{"x": {Path: program}, "y": {Path: program}}},
		{name: "twice", flag: "x=" + program, file: `{"x":{"path":"` + program + `"}}`, err: "already registered"},
		{name: "no path", flag: "x", err: "use name=path"},
		{name: "missing program", flag: "x=/nonexistent/runc", err: "no such file"},
		{name: "reserved", flag: "muelle=" + program, err: "reserved"},
		{name: "a shim of containerd's", file: `{"y":{"runtimeType":"io.containerd.kata.v2"}}`, err: "does not run here"},
		{name: "unknown default", def: "kata", err: "specified default runtime 'kata' does not exist"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &config{DefaultRuntime: tt.def}
			var err error
			if tt.flag != "" {
				err = c.Runtimes.Set(tt.flag)
			}
			if err == nil && tt.file != "" {
				err = json.Unmarshal([]byte(tt.file), &c.Runtimes)
			}
			if err == nil {
				err = c.checkRuntimes()
			}
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, c.Runtimes); d != "" {
				t.Error(d)
			}
		})
	}
}
