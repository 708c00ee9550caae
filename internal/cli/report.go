package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/internal/console"
)

// jsonFlag adds the flag by which a command that explains something is for programs.
func jsonFlag(c *cobra.Command, asJSON *bool, what string) {
	c.Flags().BoolVar(asJSON, "json", false, "Print the "+what+" as JSON")
}

// printReport prints what was found out, for people or as JSON.
func (a *app) printReport(v any, asJSON bool, text func(io.Writer) error) error {
	if !asJSON {
		return text(a.Out)
	}
	return indentedJSON(a.Out, v)
}

func indentedJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "    ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// writeEvidence prints what a sentence rests on, a line each; with aligned, in columns.
func writeEvidence(b *strings.Builder, indent string, list []api.WhyEvidence, aligned bool) {
	width := 0
	for _, e := range list {
		width = max(width, utf8.RuneCountInString(e.Source))
	}
	for _, e := range list {
		if aligned {
			text := strings.ReplaceAll(console.Printable(e.Text), "\n", "\n"+indent+strings.Repeat(" ", width+2))
			fmt.Fprintf(b, "%s%-*s  %s\n", indent, width, console.OneLine(e.Source), text)
		} else {
			fmt.Fprintf(b, "%s%s: %s\n", indent, console.OneLine(e.Source), console.OneLine(e.Text))
		}
	}
}

// writeAdvice prints what to do, a line each.
func writeAdvice(b *strings.Builder, indent string, list []string) {
	for _, d := range list {
		fmt.Fprintf(b, "%s- %s\n", indent, console.OneLine(d))
	}
}
