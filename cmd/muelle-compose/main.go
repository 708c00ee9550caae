// Command muelle-compose is `muelle compose`: Docker Compose's commands. muelle
// executes it from beside itself, because compose-go takes milliseconds to load that
// no other command should pay.
package main

import (
	"context"
	"os"
	"runtime/debug"

	"muelle/internal/compose"
)

func main() {
	// The first megabytes are the compiled schema of Compose files, which stays:
	// collecting them again and again costs a third of a command's time.
	debug.SetGCPercent(400)
	os.Exit(compose.Main(context.Background(), os.Args[1:], compose.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
