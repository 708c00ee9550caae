package console

import (
	"fmt"
	"io"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

// SetHelp gives a program's commands Docker's form of help. as is what the user
// types for the root: "muelle compose".
func SetHelp(root *cobra.Command, as string) {
	if root.Annotations == nil {
		root.Annotations = map[string]string{}
	}
	root.Annotations[cobra.CommandDisplayNameAnnotation] = as
	root.PersistentFlags().BoolP("help", "h", false, "Print usage")
	root.PersistentFlags().Lookup("help").Hidden = true
	root.SetUsageFunc(func(c *cobra.Command) error { return help(c, c.OutOrStderr()) })
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { _ = help(c, c.OutOrStdout()) })
	root.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true})
}

func help(c *cobra.Command, out io.Writer) error {
	t, err := template.New("").Funcs(template.FuncMap{
		"rpad":  func(s string, n int) string { return fmt.Sprintf("%-*s", n, s) },
		"flags": func(c *cobra.Command) string { return strings.TrimRight(c.LocalFlags().FlagUsagesWrapped(80), "\n ") },
		"use":   func(c *cobra.Command) string { return strings.TrimSuffix(c.UseLine(), " [flags]") },
	}).Parse(helpTemplate)
	if err != nil {
		return err
	}
	return t.Execute(out, c)
}

const helpTemplate = `Usage:  {{if .HasAvailableSubCommands}}{{.CommandPath}}{{if .LocalFlags.HasAvailableFlags}} [OPTIONS]{{end}} COMMAND{{else}}{{use .}}{{end}}

{{.Short}}
{{- if .LocalFlags.HasAvailableFlags}}

Options:
{{flags .}}
{{- end}}
{{- if .HasAvailableSubCommands}}

Commands:
{{- range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}
{{- end}}{{end}}

Run '{{.CommandPath}} COMMAND --help' for more information on a command.
{{- end}}
`
