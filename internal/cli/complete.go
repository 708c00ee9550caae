package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

// complete suggests names for a command's arguments, by the word that its usage
// line has for them. It never starts a daemon.
func (a *app) complete(use string) cobra.CompletionFunc {
	verb, rest, _ := strings.Cut(use, " ")
	word := ""
	for f := range strings.FieldsSeq(strings.ReplaceAll(rest, "[OPTIONS]", "")) {
		word = strings.TrimLeft(f, "[")
		break
	}
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		many := strings.HasSuffix(use, "...]") && verb != "run" && verb != "create" && verb != "exec" && verb != "top"
		word := word
		if len(args) > 0 && !many {
			if word != "NETWORK" || len(args) > 1 || !strings.Contains(use, " CONTAINER") {
				return nil, cobra.ShellCompDirectiveDefault
			}
			word = "CONTAINER" // of network connect
		}
		e, err := console.Find(a.where)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := e.Client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer func() { _ = c.Close() }()
		out := slices.DeleteFunc(a.names(cmd, c, word), func(s string) bool { return slices.Contains(args, s) })
		if verb == "cp" {
			return out, cobra.ShellCompDirectiveDefault // a file of this machine as well
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

// names lists the objects that a usage line's word stands for; none if the daemon
// does not answer.
func (a *app) names(cmd *cobra.Command, c *client.Client, word string) (out []string) {
	ctx := cmd.Context()
	switch {
	case strings.HasPrefix(word, "CONTAINER"):
		all, _ := c.Containers.List(ctx, client.ListOptions{All: true})
		for _, x := range all {
			if !fits(cmd, x.State) {
				continue
			}
			for _, n := range x.Names {
				out = append(out, strings.TrimPrefix(n, "/"))
			}
		}
	case strings.HasPrefix(word, "IMAGE"), strings.HasPrefix(word, "SOURCE_IMAGE"), strings.HasPrefix(word, "REPOSITORY"), strings.HasPrefix(word, "NAME[:TAG]") && cmd.Name() == "push":
		all, _ := c.Images.List(ctx, client.ImageListOptions{})
		for _, x := range all {
			out = append(out, x.RepoTags...)
		}
	case strings.HasPrefix(word, "NETWORK"):
		all, _ := c.Networks.List(ctx, nil)
		for _, x := range all {
			out = append(out, x.Name)
		}
	case strings.HasPrefix(word, "VOLUME"):
		all, _ := c.Volumes.List(ctx, nil)
		for _, x := range all.Volumes {
			out = append(out, x.Name)
		}
	case strings.HasPrefix(word, "CONTEXT"):
		all, _ := a.where.Contexts().List()
		for _, x := range all {
			out = append(out, x.Name)
		}
	}
	return out
}
