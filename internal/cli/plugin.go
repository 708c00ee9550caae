package cli

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"muelle/internal/console"
)

// part makes a command that another program of ours serves: its arguments go there
// as they are, after our global flags.
func (a *app) part(name, short, program string, before ...string) *cobra.Command {
	var c *cobra.Command
	c = a.command(name+" [OPTIONS]", short, nil, func(_ context.Context, args []string) error {
		return a.execPart(program, append(append(a.globalFlags(c.Root()), before...), args...))
	})
	c.DisableFlagParsing = true
	return c
}

// globalFlags repeats those that say where the daemon is.
func (a *app) globalFlags(root *cobra.Command) []string {
	var out []string
	for _, h := range a.where.Hosts {
		out = append(out, "--host="+h)
	}
	for _, n := range []string{"context", "config", "tls", "tlsverify", "tlscacert", "tlscert", "tlskey", "debug", "log-level"} {
		if f := root.Flags().Lookup(n); f != nil && f.Changed {
			out = append(out, "--"+n+"="+f.Value.String())
		}
	}
	return out
}

// execPart becomes the other program. It is found beside this one, never by PATH:
// whoever may write a folder of PATH must not get to run as whoever calls us.
func (a *app) execPart(program string, args []string) error {
	path, err := console.Beside(program)
	if err != nil {
		return err
	}
	// The other program calls itself as we were called.
	env := append(os.Environ(), "MUELLE_NAME="+a.name())
	err = syscall.Exec(path, append([]string{program}, args...), env)
	return fmt.Errorf("execute %s: %w", path, err)
}

func (a *app) buildImage() *cobra.Command {
	return a.part("build", "Build an image from a Dockerfile", "muelle-build", "build")
}

func (a *app) bake() *cobra.Command {
	return a.part("bake", "Build from a file", "muelle-build", "bake")
}

func (a *app) compose() *cobra.Command {
	return a.part("compose", "Define and run multi-container applications", "muelle-compose")
}

func (a *app) builder() *cobra.Command {
	sub := func(name, short string) *cobra.Command { return a.part(name, short, "muelle-build", "builder", name) }
	return a.group("builder", "Manage builds", a.buildImage(), sub("prune", "Remove build cache"), sub("du", "Disk usage"), sub("ls", "List builder instances"))
}

func (a *app) container() *cobra.Command {
	ls := a.ps("ls")
	ls.Aliases = []string{"ps", "list"}
	inspect := a.inspectCommand("inspect [OPTIONS] CONTAINER [CONTAINER...]", "Display detailed information on one or more containers", func(c *cobra.Command) func() inspector {
		size := c.Flags().BoolP("size", "s", false, "Display total file sizes")
		return func() inspector { return containerInspector(*size) }
	})
	return a.group("container", "Manage containers", a.attach(), a.commit(), a.cp(), a.create(), a.diff(), a.exec(), a.export(), inspect, a.kill(), a.logs(), ls,
		a.pause(), a.port(), a.prune(containerPruner(), "Remove all stopped containers"), a.rename(), a.restart(), a.rm(), a.run(), a.start(), a.stats(), a.stop(),
		a.top(), a.unpause(), a.update(), a.wait(), a.why())
}

func (a *app) image() *cobra.Command {
	ls := a.images("ls")
	ls.Aliases = []string{"list"}
	inspect := a.inspectCommand("inspect [OPTIONS] IMAGE [IMAGE...]", "Display detailed information on one or more images", func(c *cobra.Command) func() inspector {
		p := c.Flags().String("platform", "", `Inspect a specific platform of the multi-platform image. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
		return func() inspector {
			// A platform that is none is refused by the daemon.
			doc, err := platformJSON(*p)
			if err != nil {
				doc = strings.TrimSpace(*p)
			}
			return imageInspector(doc)
		}
	})
	return a.group("image", "Manage images", a.buildImage(), a.history(), a.importImage(), inspect, a.load(), ls,
		a.prune(imagePruner(), "Remove unused images"), a.pull(), a.push(), a.rmi("rm"), a.save(), a.tag())
}
