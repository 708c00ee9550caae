// Package compose is `muelle compose`: Docker Compose's commands over Muelle's
// daemon. It resolves the files, builds and pulls images, sends the project to the
// daemon that reconciles it, and shows what happens.
package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"muelle/api"
	"muelle/client"
	"muelle/internal/compose/display"
	"muelle/internal/compose/model"
	"muelle/internal/console"
)

// Streams are the program's standard streams.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// app is one run of the program.
type app struct {
	Streams
	console *console.Options

	files, envFiles, profiles []string
	name, projectDir          string
	all, compatibility        bool
	ansi, progressMode        string
	parallel                  int
	dryRun                    bool

	connect sync.Once
	cli     *client.Client
	cliErr  error
}

// exitError ends the program with a code; its text may be empty.
type exitError struct {
	code int
	text string
}

func (e *exitError) Error() string { return e.text }

// Main runs one command line (without the program's name) and returns its exit
// code.
func Main(ctx context.Context, args []string, s Streams) int {
	a := &app{Streams: s, console: console.NewOptions(os.Getenv("MUELLE_NAME"))}
	a.console.Stderr = s.Err
	root := a.root()
	if asked(args) {
		a.silent()
		a.completeCommands(root)
	}
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		if exit.text != "" {
			_, _ = fmt.Fprintln(s.Err, exit.text)
		}
		return exit.code
	case ctx.Err() != nil:
		return 130
	}
	_, _ = fmt.Fprintln(s.Err, console.Explain(a.console, err))
	return 1
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:                   "compose",
		Short:                 "Define and run multi-container applications",
		Version:               api.ComposeVersion,
		TraverseChildren:      true,
		SilenceErrors:         true,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
		CompletionOptions:     cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE:     func(cmd *cobra.Command, _ []string) error { return a.settle(cmd) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return &exitError{1, fmt.Sprintf("unknown command: %q", "compose "+args[0])}
		},
	}
	root.SetVersionTemplate(versionText + "\n")
	console.SetHelp(root, a.console.Name+" compose")
	f := root.Flags()
	f.SetInterspersed(false)
	f.StringArrayVar(&a.profiles, "profile", nil, "Specify a profile to enable")
	f.StringVarP(&a.name, "project-name", "p", "", "Project name")
	f.StringArrayVarP(&a.files, "file", "f", nil, "Compose configuration files")
	f.StringArrayVar(&a.envFiles, "env-file", commaList("COMPOSE_ENV_FILES"), "Specify an alternate environment file")
	f.StringVar(&a.projectDir, "project-directory", "", "Specify an alternate working directory\n(default: the path of the, first specified, Compose file)")
	f.BoolVar(&a.compatibility, "compatibility", false, "Run compose in backward compatibility mode")
	f.StringVar(&a.progressMode, "progress", os.Getenv("COMPOSE_PROGRESS"), "Set type of progress output (auto, tty, plain, json, quiet)")
	f.BoolVar(&a.all, "all-resources", false, "Include all resources, even those not used by services")
	f.StringVar(&a.ansi, "ansi", "auto", `Control when to print ANSI control characters ("never"|"always"|"auto")`)
	f.IntVar(&a.parallel, "parallel", -1, `Control max parallelism, -1 for unlimited`)
	a.whereFlags(f)
	root.PersistentFlags().BoolVar(&a.dryRun, "dry-run", false, "Execute command in dry run mode")
	root.AddCommand(
		a.upCommand(), a.downCommand(), a.createCommand(), a.startCommand(), a.stopCommand(), a.restartCommand(),
		a.killCommand(), a.rmCommand(), a.pauseCommand(), a.unpauseCommand(), a.scaleCommand(), a.waitCommand(),
		a.psCommand(), a.lsCommand(), a.logsCommand(), a.topCommand(), a.portCommand(), a.imagesCommand(), a.volumesCommand(), a.eventsCommand(),
		a.execCommand(), a.cpCommand(), a.exportCommand(), a.commitCommand(), a.runCommand(), a.buildCommand(), a.pullCommand(), a.pushCommand(), a.configCommand(), a.versionCommand(),
	)
	for _, name := range []string{"alpha", "attach", "bridge", "publish", "stats", "watch"} {
		root.AddCommand(&cobra.Command{
			Use: name, Hidden: true, DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error {
				return fmt.Errorf("compose %s is not supported by Muelle yet", name)
			},
		})
	}
	return root
}

// whereFlags are muelle's own global flags, which it passes on.
func (a *app) whereFlags(f *pflag.FlagSet) {
	where := pflag.NewFlagSet("where", pflag.ContinueOnError)
	a.console.RegisterFlags(where)
	where.BoolP("debug", "D", false, "Enable debug mode")
	where.StringP("log-level", "l", "info", "Set the logging level")
	where.VisitAll(func(fl *pflag.Flag) {
		fl.Hidden = true
		f.AddFlag(fl)
	})
}

func commaList(env string) []string {
	return strings.FieldsFunc(os.Getenv(env), func(r rune) bool { return r == ',' })
}

// settle checks the global flags and takes COMPOSE_ variables that they default to.
func (a *app) settle(cmd *cobra.Command) error {
	if a.dryRun {
		return errors.New("--dry-run is not supported by Muelle yet")
	}
	if a.compatibility {
		return errors.New("--compatibility is not supported by Muelle")
	}
	if v, ok := os.LookupEnv("COMPOSE_ANSI"); ok && !cmd.Root().Flags().Changed("ansi") {
		a.ansi = v
	}
	switch a.progressMode {
	case "", display.ModeAuto, display.ModeTTY, display.ModePlain, display.ModeJSON, display.ModeQuiet:
	case "none":
		a.progressMode = display.ModeQuiet
	default:
		return fmt.Errorf("unsupported --progress value %q", a.progressMode)
	}
	switch a.ansi {
	case "auto", "always":
	case "never":
		if a.progressMode == display.ModeTTY {
			return errors.New("can't use --progress tty while ANSI support is disabled")
		}
		if a.progressMode == "" || a.progressMode == display.ModeAuto {
			a.progressMode = display.ModePlain
		}
	default:
		return fmt.Errorf("invalid value %q for --ansi", a.ansi)
	}
	if v, ok := os.LookupEnv("COMPOSE_PARALLEL_LIMIT"); ok && !cmd.Root().Flags().Changed("parallel") {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("COMPOSE_PARALLEL_LIMIT must be an integer (found: %q)", v)
		}
		a.parallel = n
	}
	return nil
}

// color says whether to write ANSI colours to w.
func (a *app) color(w io.Writer) bool {
	if os.Getenv("NO_COLOR") != "" || a.ansi == "never" {
		return false
	}
	return a.ansi == "always" || console.IsTerminal(w)
}

// progress begins a display; the caller closes it.
func (a *app) progress(title string) *display.Progress {
	return display.NewProgress(a.Err, a.progressMode, title, a.color(a.Err))
}

func (a *app) warn(text string) {
	lead := "WARN"
	if a.color(a.Err) {
		lead = "\x1b[33;1mWARN\x1b[0m"
	}
	_, _ = fmt.Fprintln(a.Err, lead+" "+text)
}

// client connects to the daemon, once.
func (a *app) client(ctx context.Context) (*client.Client, error) {
	a.connect.Do(func() { a.cli, a.cliErr = console.Connect(ctx, a.console) })
	return a.cli, a.cliErr
}

func (a *app) options(services []string) model.Options {
	return model.Options{
		Files: a.files, EnvFiles: a.envFiles, Profiles: a.profiles, Name: a.name, ProjectDir: a.projectDir,
		Services: services, AllResources: a.all, Warn: a.warn,
	}
}

// load reads the project with the services asked for and what they depend on.
func (a *app) load(ctx context.Context, services []string) (*types.Project, error) {
	return model.Load(ctx, a.options(services))
}

// report turns the daemon's lines into a display's.
func report(p *display.Progress) func(api.ProjectProgress) {
	return func(line api.ProjectProgress) {
		switch {
		case line.ID == api.ProgressCreated, line.ID == api.ProgressFailure:
		case line.ID == api.ProgressWarning:
			p.Warn(line.Status)
		case line.Error != "":
			p.On(display.Event{ID: line.ID, Text: "Error", Details: line.Error, State: display.Error})
		case line.Status == "Resource is still in use":
			p.On(display.Event{ID: line.ID, Text: line.Status, State: display.Warning})
		case line.Finished:
			p.On(display.Event{ID: line.ID, Text: line.Status, State: display.Done})
		default:
			p.On(display.Event{ID: line.ID, Text: line.Status})
		}
	}
}

// plainly words an error of the project's own as it stands; others keep the lead
// that says they are the daemon's.
func plainly(err error, own string) error {
	e := new(client.Error)
	if own != "" && errors.As(err, &e) && e.Message == own {
		return &worded{text: own, err: err}
	}
	return err
}

// worded is an error with a text of its own and the class of another.
type worded struct {
	text string
	err  error
}

func (w *worded) Error() string { return w.text }

func (w *worded) Unwrap() error { return w.err }

// seconds is -t: nil unless it was given.
func seconds(cmd *cobra.Command, flag string, value int) *int {
	if !cmd.Flags().Changed(flag) {
		return nil
	}
	return &value
}

func absolute(files []string) []string {
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = f
		if abs, err := filepath.Abs(f); err == nil {
			out[i] = abs
		}
	}
	return out
}
