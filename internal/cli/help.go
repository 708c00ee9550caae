package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

// nothing is what commands do that were not called.
func nothing(context.Context, []string) error { return nil }

// aliases lists the other places of a command, for the help text.
const aliasesKey = "aliases"

// also notes a command's full names, Docker's way of listing aliases.
func (a *app) also(c *cobra.Command, names ...string) *cobra.Command {
	for i, n := range names {
		names[i] = a.name() + " " + n
	}
	if c.Annotations == nil {
		c.Annotations = map[string]string{}
	}
	c.Annotations[aliasesKey] = strings.Join(names, ", ")
	return c
}

// usage prints a command's help text.
func usage(c *cobra.Command, out io.Writer) error {
	t, err := template.New("").Funcs(usageFunctions()).Parse(usageTemplate)
	if err != nil {
		return err
	}
	return t.Execute(out, c)
}

// usageFunctions are what the usage template calls.
func usageFunctions() map[string]any {
	return map[string]any{
		"rpad":    func(s string, n int) string { return fmt.Sprintf("%-*s", n, s) },
		"shown":   func(c *cobra.Command) string { return c.Name() + c.Annotations[pluginKey] },
		"aliases": func(c *cobra.Command) string { return c.Annotations[aliasesKey] },
		"flags":   func(c *cobra.Command) string { return strings.TrimRight(c.LocalFlags().FlagUsagesWrapped(80), "\n ") },
		"options": func(c *cobra.Command) bool {
			return c.HasParent() && c.LocalFlags().HasAvailableFlags()
		},
		"operation":  func(c *cobra.Command) []*cobra.Command { return ofKind(c, operation) },
		"common":     func(c *cobra.Command) []*cobra.Command { return ofKind(c, common) },
		"management": func(c *cobra.Command) []*cobra.Command { return ofKind(c, management) },
	}
}

func ofKind(c *cobra.Command, k kind) []*cobra.Command {
	var out []*cobra.Command
	for _, s := range c.Commands() {
		has := s.Annotations[kindKey]
		if s.IsAvailableCommand() && (has == strconv.Itoa(int(k)) || has == "" && k == operation) {
			out = append(out, s)
		}
	}
	if k == common {
		// The most used first, not by the alphabet.
		slices.SortFunc(out, func(a, b *cobra.Command) int { return cmp.Compare(order(a), order(b)) })
	}
	return out
}

func order(c *cobra.Command) int {
	n, err := strconv.Atoi(c.Annotations[orderKey])
	if err != nil {
		return 0 // below the first level nothing is ordered
	}
	return n
}

const usageTemplate = `Usage:
{{- if .HasSubCommands}}  {{.CommandPath}}{{if not .HasParent}} [OPTIONS]{{end}} COMMAND{{else}}  {{.UseLine}}{{end}}

{{if .Long}}{{.Long}}{{else}}{{.Short}}{{end}}
{{- with aliases .}}

Aliases:
  {{.}}
{{- end}}
{{- if options .}}

Options:
{{flags .}}
{{- end}}
{{- with common .}}

Common Commands:
{{- range .}}
  {{rpad .Name .NamePadding}} {{.Short}}
{{- end}}
{{- end}}
{{- with management .}}

Management Commands:
{{- range .}}
  {{rpad (shown .) .NamePadding}} {{.Short}}
{{- end}}
{{- end}}
{{- with operation .}}

Commands:
{{- range .}}
  {{rpad .Name .NamePadding}} {{.Short}}
{{- end}}
{{- end}}
{{- if not .HasParent}}

Global Options:
{{flags .}}
{{- end}}
{{- if .HasSubCommands}}

Run '{{.CommandPath}} COMMAND --help' for more information on a command.
{{- end}}
`
