package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/internal/console"
)

func (a *app) explain() *cobra.Command {
	var asJSON bool
	c := a.command("explain [OPTIONS] SOURCE TARGET[:PORT[/PROTOCOL]]", "Explain whether one container reaches another, and if not, why", exactArgs(2), func(ctx context.Context, args []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		e, err := c.System.Explain(ctx, api.ExplainRequest{Source: args[0], Target: args[1], Project: projectHere(ctx, c)})
		if err != nil {
			return err
		}
		err = a.printReport(&e, asJSON, func(w io.Writer) error {
			return writeExplanation(w, &e, console.IsTerminal(w) && os.Getenv("NO_COLOR") == "")
		})
		if err == nil && e.Depends {
			return statusError{3, ""}
		}
		if err == nil && !e.Reachable {
			return statusError{1, ""}
		}
		return err
	})
	c.Long = `Follow a connection from SOURCE to TARGET hop by hop: name, address, shared network, policy,
published port, route, listener, answer. Each is looked at, and the connection itself is tried
inside SOURCE's network. The first hop that is broken is shown with what mends it.

SOURCE and TARGET are a service (in its project's folder), PROJECT/SERVICE, a container, host,
lan, internet or outside (which is either). SOURCE may also be the address of a machine
outside; TARGET may also be a name or address of the world, localhost as SOURCE means it,
or host:PORT for a published port. Without PORT it is the one that TARGET serves.

Exit status: 0 reachable, 1 not, 3 it depends: on the source's address, or on what a firewall's rule
asks beside and nobody can know.`
	jsonFlag(c, &asJSON, "explanation")
	return c
}

// marks of the states, and their colours.
var marks = map[string][2]string{
	api.HopOK: {"✓", "\x1b[32m"}, api.HopBroken: {"✗", "\x1b[31;1m"}, api.HopWarning: {"!", "\x1b[33;1m"}, api.HopUnknown: {"?", "\x1b[33m"},
	api.HopDepends: {"~", "\x1b[33;1m"},
}

func writeExplanation(w io.Writer, e *api.Explanation, coloured bool) error {
	var b strings.Builder
	paint := func(text, code string) string {
		if !coloured {
			return text
		}
		return code + text + "\x1b[0m"
	}
	title := e.Target
	if e.Port != 0 {
		if title += fmt.Sprintf(":%d", e.Port); strings.Contains(e.Target, ":") {
			title = fmt.Sprintf("[%s]:%d", e.Target, e.Port)
		}
	}
	if e.Proto != "tcp" {
		title += "/" + e.Proto
	}
	fmt.Fprintf(&b, "%s -> %s\n\n", console.OneLine(e.Source), console.OneLine(title))
	first := e.Broken()
	for i := range e.Hops {
		h := &e.Hops[i]
		mark := marks[h.State]
		fmt.Fprintf(&b, "%s %-8s  %s", paint(mark[0], mark[1]), console.OneLine(h.Hop), console.OneLine(h.What))
		if h.State == api.HopOK {
			for _, v := range h.Evidence {
				fmt.Fprintf(&b, " (%s: %s)", console.OneLine(v.Source), console.OneLine(v.Text))
			}
		}
		b.WriteByte('\n')
		if h.State != api.HopOK {
			writeEvidence(&b, "            ", h.Evidence, false)
		}
		if h == first || h.State == api.HopWarning || h.State == api.HopDepends {
			writeRemedy(&b, h)
		}
	}
	verdict := paint("reaches", marks[api.HopOK][1])
	switch {
	case e.Depends:
		fmt.Fprintf(&b, "\nIt %s whether %s reaches %s.\n", paint("depends", marks[api.HopDepends][1]), console.OneLine(e.Source), console.OneLine(title))
		_, err := io.WriteString(w, b.String())
		return err
	case !e.Reachable:
		verdict = paint("does not reach", marks[api.HopBroken][1])
	}
	fmt.Fprintf(&b, "\n%s %s %s.\n", console.OneLine(e.Source), verdict, console.OneLine(title))
	_, err := io.WriteString(w, b.String())
	return err
}

// writeRemedy prints what mends a hop.
func writeRemedy(b *strings.Builder, h *api.ExplainHop) {
	if h.YAML != "" {
		file := h.File
		if file == "" {
			file = "the Compose file"
		}
		fmt.Fprintf(b, "\n            In %s:\n\n", console.OneLine(file))
		for line := range strings.Lines(h.YAML) {
			fmt.Fprintf(b, "              %s\n", console.OneLine(strings.TrimRight(line, "\n")))
		}
		b.WriteByte('\n')
	}
	writeAdvice(b, "            ", h.Do)
}
