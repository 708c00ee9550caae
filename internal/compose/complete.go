package compose

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/compose/model"
	"muelle/internal/console"
)

const noFiles = cobra.ShellCompDirectiveNoFileComp

// asked tells whether a shell asks for words. Nothing else may be printed then.
func asked(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// completeCommands gives every command the words that its arguments, and the values of
// flags, can have, by its usage line.
func (a *app) completeCommands(root *cobra.Command) {
	for _, c := range root.Commands() {
		if !c.Hidden {
			c.ValidArgsFunction = a.arguments(c)
		}
	}
	for flag, f := range map[string]cobra.CompletionFunc{
		"project-name": a.projectNames, "profile": a.profileNames,
		"file":     words(cobra.ShellCompDirectiveFilterFileExt, "yaml", "yml"),
		"ansi":     words(noFiles, "auto", "never", "always"),
		"progress": words(noFiles, "auto", "tty", "plain", "json", "quiet"),
	} {
		_ = root.RegisterFlagCompletionFunc(flag, f) // it fails for a flag that is not there only
	}
	_ = root.MarkFlagDirname("project-directory")
}

func words(how cobra.ShellCompDirective, all ...string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { return all, how }
}

// arguments completes what a usage line calls SERVICE.
func (a *app) arguments(c *cobra.Command) cobra.CompletionFunc {
	use, _, _ := strings.Cut(c.Use, "\n")
	if !strings.Contains(use, "SERVICE") {
		return words(noFiles)
	}
	many := strings.Contains(use, "...]") && !strings.Contains(use, "COMMAND") || strings.Contains(use, "[SERVICES]")
	after, how := "", noFiles
	switch c.Name() {
	case "scale":
		after, how = "=", noFiles|cobra.ShellCompDirectiveNoSpace
	case "cp":
		after, how = ":", cobra.ShellCompDirectiveNoSpace // a file of this machine as well
	}
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 && !many && c.Name() != "cp" {
			return nil, cobra.ShellCompDirectiveDefault
		}
		var out []string
		for _, name := range a.serviceNames(cmd.Context()) {
			if !slices.ContainsFunc(args, func(s string) bool { return s == name || strings.HasPrefix(s, name+"=") }) {
				out = append(out, name+after)
			}
		}
		return out, how
	}
}

// serviceNames are those of the files; without files, those that have containers.
func (a *app) serviceNames(ctx context.Context) (names []string) {
	s, err := a.scope(ctx)
	if err != nil {
		return nil
	}
	if s.model != nil {
		names = s.known()
	} else if c, err := a.quietly(); err == nil {
		defer func() { _ = c.Close() }()
		all, _ := c.Containers.List(ctx, client.ListOptions{All: true, Filters: client.Filters{"label": {api.LabelProject + "=" + s.name}}})
		for _, x := range all {
			names = append(names, x.Labels[api.LabelService])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (a *app) projectNames(cmd *cobra.Command, _ []string, _ string) (names []string, how cobra.ShellCompDirective) {
	c, err := a.quietly()
	if err != nil {
		return nil, noFiles
	}
	defer func() { _ = c.Close() }()
	var all []api.ProjectSummary
	_ = c.Projects.List(cmd.Context(), &all) // whoever presses TAB is told nothing then
	for _, p := range all {
		names = append(names, p.Name)
	}
	return names, noFiles
}

func (a *app) profileNames(cmd *cobra.Command, _ []string, _ string) (names []string, how cobra.ShellCompDirective) {
	o := a.options(nil)
	o.Lenient, o.Profiles = true, []string{"*"}
	p, err := model.Load(cmd.Context(), o)
	if err != nil {
		return nil, noFiles
	}
	for _, s := range p.Services {
		names = append(names, s.Profiles...)
	}
	slices.Sort(names)
	return slices.Compact(names), noFiles
}

// quietly gives a client of the daemon, which is not started for a question of a shell.
func (a *app) quietly() (*client.Client, error) {
	e, err := console.Find(a.console)
	if err != nil {
		return nil, err
	}
	return e.Client()
}

// silent keeps warnings off a terminal where somebody presses TAB.
func (a *app) silent() { a.Err, a.console.Stderr = io.Discard, io.Discard }
