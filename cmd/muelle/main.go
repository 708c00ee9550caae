// Command muelle is the command line of Muelle, with Docker's verbs and flags.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"muelle/api"
	"muelle/internal/cli"
)

func main() {
	b := cli.Build{Version: api.Version, Commit: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value[:min(len(s.Value), 7)]
			case "vcs.time":
				b.Time = s.Value
			}
		}
	}
	os.Exit(cli.Run(context.Background(), os.Args, cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, b))
}
