// Command muelle-compose is `muelle compose`: Docker Compose's commands. muelle
// executes it from beside itself, because compose-go takes milliseconds to load that
// no other command should pay.
package main

import (
	"context"
	"os"

	"muelle/internal/compose"
)

func main() {
	args := os.Args[1:]
	os.Exit(compose.Main(context.Background(), args, compose.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
