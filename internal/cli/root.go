package cli

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
)

// entry is a command of the first level. Its flags are defined only when it is the
// one that was called.
type entry struct {
	name, short string
	kind        kind
	build       func() *cobra.Command
}

type kind int

const (
	operation kind = iota
	common
	management
	hidden
)

func (a *app) entries() []entry {
	return []entry{
		{"run", "Create and run a new container from an image", common, a.run},
		{"exec", "Execute a command in a running container", common, a.exec},
		{"ps", "List containers", common, func() *cobra.Command { return a.ps("ps") }},
		{"build", "Build an image from a Dockerfile", common, a.buildImage},
		{"bake", "Build from a file", common, a.bake},
		{"pull", "Download an image from a registry", common, a.pull},
		{"push", "Upload an image to a registry", common, a.push},
		{"images", "List images", common, func() *cobra.Command { return a.images("images") }},
		{"login", "Authenticate to a registry", common, a.login},
		{"logout", "Log out from a registry", common, a.logout},
		{"version", "Show the version information", common, a.version},
		{"info", "Display system-wide information", common, a.info},

		{"builder", "Manage builds", management, a.builder},
		{"compose", "Define and run multi-container applications", management, a.compose},
		{"container", "Manage containers", management, a.container},
		{"context", "Manage contexts", management, a.context},
		{"dns", "See what containers look up", management, a.dns},
		{"exposure", "Tell who can really reach each port", management, a.exposure},
		{"image", "Manage images", management, a.image},
		{"net", "Look into networks", management, a.net},
		{"network", "Manage networks", management, a.network},
		{"system", "Manage the engine", management, a.system},
		{"volume", "Manage volumes", management, a.volume},

		{"attach", "Attach local standard input, output, and error streams to a running container", operation, a.attach},
		{"commit", "Create a new image from a container's changes", operation, a.commit},
		{"cp", "Copy files/folders between a container and the local filesystem", operation, a.cp},
		{"create", "Create a new container", operation, a.create},
		{"debug", "Get a shell with tools in a running container, also one whose image has none", operation, a.debug},
		{"diff", "Inspect changes to files or directories on a container's filesystem", operation, a.diff},
		{"events", "Get real time events from the server", operation, a.events},
		{"explain", "Explain whether one container reaches another, and if not, why", operation, a.explain},
		{"export", "Export a container's filesystem as a tar archive", operation, a.export},
		{"history", "Show the history of an image", operation, a.history},
		{"import", "Import the contents from a tarball to create a filesystem image", operation, a.importImage},
		{"inspect", "Return low-level information on Docker objects", operation, a.inspect},
		{"kill", "Kill one or more running containers", operation, a.kill},
		{"load", "Load an image from a tar archive or STDIN", operation, a.load},
		{"logs", "Fetch the logs of a container", operation, a.logs},
		{"pause", "Pause all processes within one or more containers", operation, a.pause},
		{"port", "List port mappings or a specific mapping for the container", operation, a.port},
		{"rename", "Rename a container", operation, a.rename},
		{"restart", "Restart one or more containers", operation, a.restart},
		{"rm", "Remove one or more containers", operation, a.rm},
		{"rmi", "Remove one or more images", operation, func() *cobra.Command { return a.rmi("rmi") }},
		{"save", "Save one or more images to a tar archive (streamed to STDOUT by default)", operation, a.save},
		{"search", "Search Docker Hub for images", operation, a.search},
		{"start", "Start one or more stopped containers", operation, a.start},
		{"stats", "Display a live stream of container(s) resource usage statistics", operation, a.stats},
		{"stop", "Stop one or more running containers", operation, a.stop},
		{"tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", operation, a.tag},
		{"top", "Display the running processes of a container", operation, a.top},
		{"unpause", "Unpause all processes within one or more containers", operation, a.unpause},
		{"update", "Update configuration of one or more containers", operation, a.update},
		{"wait", "Block until one or more containers stop, then print their exit codes", operation, a.wait},
		{"why", "Explain why a container ended, fails or does not start", operation, a.why},
		{"zones", "Show who reaches whom, and prove it", operation, a.zones},
	}
}

const (
	kindKey  = "kind"
	orderKey = "order"
	// pluginKey is what stands behind the name of a plugin in the help.
	pluginKey = "plugin"
)

func (a *app) root() *cobra.Command {
	root := a.command(a.name()+" [OPTIONS] COMMAND [ARG...]", "A container platform for one Linux machine", noArgs, nil)
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		// Nobody asked for help: it is no output.
		cmd.SetOut(a.Err)
		return cmd.Help()
	}
	root.Version = fmt.Sprintf("%s, build %s", a.build.Version, a.build.Commit)
	root.SetVersionTemplate(a.title() + " version {{.Version}}\n")
	root.TraverseChildren = true
	root.SetFlagErrorFunc(flagError)
	root.SetUsageFunc(func(c *cobra.Command) error { return usage(c, c.OutOrStderr()) })
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { _ = usage(c, c.OutOrStdout()) })
	root.PersistentFlags().BoolP("help", "h", false, "Print usage")
	root.PersistentFlags().Lookup("help").ShorthandDeprecated = "use --help"
	root.PersistentFlags().Lookup("help").Hidden = true
	f := root.Flags()
	f.SetInterspersed(false)
	a.where.RegisterFlags(f)
	f.BoolP("debug", "D", false, "Enable debug mode")
	f.StringP("log-level", "l", "info", `Set the logging level ("debug", "info", "warn", "error", "fatal")`)
	f.BoolP("version", "v", false, "Print version information and quit")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		switch level := cmd.Root().Flags().Lookup("log-level").Value.String(); level {
		case "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace":
			return nil
		default:
			return fmt.Errorf("Unable to parse logging level: %s", level)
		}
	}

	all := a.entries()
	known := slices.ContainsFunc(all, func(e entry) bool { return e.name == a.wanted })
	for i, e := range all {
		var c *cobra.Command
		if e.name == a.wanted || !known {
			c = e.build()
		} else {
			c = a.command(e.name, e.short, nil, nothing)
		}
		c.Short = e.short
		if c.Annotations == nil {
			c.Annotations = map[string]string{}
		}
		c.Annotations[kindKey] = strconv.Itoa(int(e.kind))
		c.Annotations[orderKey] = strconv.Itoa(i)
		root.AddCommand(c)
	}
	if a.wanted != "" {
		root.CompletionOptions.DisableDefaultCmd = true
	}
	return root
}

func (a *app) title() string {
	if a.name() == "docker" {
		return "Docker"
	}
	return "Muelle"
}
