package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

const noSwarm = "Muelle runs on one machine and has no Swarm mode; several services are a Compose project"

// absent are commands of Docker's client that Muelle has not, and why.
var absent = map[string]string{
	"swarm": noSwarm, "node": noSwarm, "service": noSwarm, "stack": noSwarm, "secret": noSwarm, "config": noSwarm,
	"checkpoint": "writing a running process to disk takes CRIU, and Muelle runs without other programs; stop the container, or commit its files",
	"plugin":     "the daemon takes no plugins; volumes, networks and logs have drivers of its own",
	"manifest":   "lists of platforms cannot be put together by hand",
}

func noArgs(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case !cmd.HasParent() && absent[args[0]] != "":
		return fmt.Errorf("%s: %s is not supported: %s", cmd.Root().Name(), args[0], absent[args[0]])
	case !cmd.HasParent():
		return fmt.Errorf("%[1]s: unknown command: %[1]s %[2]s\n\nRun '%[1]s --help' for more information", cmd.Root().Name(), args[0])
	case cmd.HasSubCommands():
		return fmt.Errorf("%[1]s: unknown command: %[2]s %[3]s\n\nUsage:  %[4]s\n\nRun '%[2]s --help' for more information",
			cmd.Root().Name(), cmd.CommandPath(), args[0], cmd.UseLine())
	}
	return argsError(cmd, "accepts no arguments", "Run")
}

func argsError(cmd *cobra.Command, what, see string) error {
	return fmt.Errorf("%s: '%s' %s\n\nUsage:  %s\n\n%s '%[2]s --help' for more information",
		cmd.Root().Name(), cmd.CommandPath(), what, cmd.UseLine(), see)
}

func arguments(n int) string {
	if n == 1 {
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

func minArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return argsError(cmd, "requires at least "+arguments(n), "See")
	}
}

func maxArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return argsError(cmd, "requires at most "+arguments(n), "Run")
	}
}

func rangeArgs(from, to int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= from && len(args) <= to {
			return nil
		}
		return argsError(cmd, fmt.Sprintf("requires at least %d and at most %s", from, arguments(to)), "Run")
	}
}

func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		return argsError(cmd, "requires "+arguments(n), "Run")
	}
}

// flagError is what a wrong flag answers: code 125 for every command.
func flagError(cmd *cobra.Command, err error) error {
	if err == nil {
		return nil
	}
	return statusError{125, fmt.Sprintf("%s\n\nUsage:  %s\n\nRun '%s --help' for more information", err, cmd.UseLine(), cmd.CommandPath())}
}
