// Package ocirun is the project's runtime as an OCI runtime: the commands of runc's
// command line, driven by other engines (podman, containerd) or by hand. It
// compiles a bundle's document as the daemon's runtime does, but instead of a shim
// beside the container it makes a stage, the container's first process, which waits
// between create and start and then becomes the user's program; no process of ours
// is left beside it, as such engines expect.
package ocirun

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"muelle/internal/shimapi"
)

// programName is how the program is called where it is called as it should be.
const programName = "muelle-oci"

// App is one call of the command line.
type App struct {
	Version        string
	Name           string // the one it was called by, without folders
	Stdin          *os.File
	Stdout, Stderr io.Writer

	root    string
	log     string
	format  string
	systemd bool
	debug   bool
}

// exitError ends the command with a status of its own and without a word.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

type command struct {
	usage string
	run   func(*App, []string) error
}

func commands() map[string]command {
	return map[string]command{
		"create":   {"create [--bundle DIR] [--console-socket PATH] [--pid-file FILE] ID", (*App).create},
		"start":    {"start ID", (*App).start},
		"run":      {"run [--bundle DIR] [--detach] [--keep] ID", (*App).run},
		"state":    {"state ID", (*App).state},
		"kill":     {"kill [--all] ID [SIGNAL]", (*App).kill},
		"delete":   {"delete [--force] ID", (*App).delete},
		"exec":     {"exec [--process FILE] [--detach] [--tty] ID COMMAND [ARG…]", (*App).exec},
		"ps":       {"ps [--format table|json] ID [PS OPTION…]", (*App).ps},
		"list":     {"list [--format table|json] [--quiet]", (*App).list},
		"pause":    {"pause ID", (*App).pause},
		"resume":   {"resume ID", (*App).resume},
		"update":   {"update [--resources FILE] [--memory BYTES] … ID", (*App).update},
		"events":   {"events [--interval 5s] [--stats] ID", (*App).events},
		"spec":     {"spec [--bundle DIR]", (*App).spec},
		"features": {"features", (*App).features},
	}
}

// Main runs one command line, without the program's name, and gives the exit status.
func (a *App) Main(args []string) int {
	f := flag.NewFlagSet(programName, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&a.root, "root", "/run/muelle-oci", "")
	f.StringVar(&a.log, "log", "", "")
	f.StringVar(&a.format, "log-format", "text", "")
	f.BoolVar(&a.systemd, "systemd-cgroup", false, "")
	f.BoolVar(&a.debug, "debug", false, "")
	rootless := f.String("rootless", "auto", "")
	version := f.Bool("version", false, "")
	f.BoolVar(version, "v", false, "")
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		a.help(a.Stdout)
		return 0
	case err != nil:
		return a.fail(err)
	case *version:
		fmt.Fprintf(a.Stdout, "muelle-oci version %s\nspec: %s\n", a.Version, specVersion)
		return 0
	case a.format != "text" && a.format != "json":
		return a.fail(fmt.Errorf("invalid log-format %q", a.format))
	case *rootless != "auto" && *rootless != "false":
		return a.fail(errors.New("rootless containers are not supported"))
	}
	name := f.Arg(0)
	if name == "" || name == "help" {
		a.help(a.Stdout)
		return 0
	}
	c, ok := commands()[name]
	if !ok {
		if what := a.foreign(); what != "" {
			name += ": " + what
		}
		return a.fail(fmt.Errorf("no such command: %s (muelle-oci help lists them)", name))
	}
	if a.root, err = filepath.Abs(a.root); err != nil {
		return a.fail(err)
	}
	err = c.run(a, f.Args()[1:])
	var status exitError
	switch {
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(a.Stdout, "usage: muelle-oci "+c.usage)
		return 0
	case err != nil:
		return a.fail(err)
	}
	return 0
}

// foreign says what the program is where its name does not. It works by any name but the
// shim's: by runc's, for one, where it is to take runc's place.
func (a *App) foreign() string {
	if a.Name == programName {
		return ""
	}
	return a.Name + " is Muelle's OCI runtime, " + programName + "; called " + shimapi.BinaryName + ", the same file is the process beside a container of muelled"
}

func (a *App) help(w io.Writer) {
	fmt.Fprintf(w, "muelle-oci %s: an OCI runtime\n", a.Version)
	if what := a.foreign(); what != "" {
		fmt.Fprintln(w, what)
	}
	fmt.Fprint(w, "\nusage: muelle-oci [--root DIR] [--log FILE] [--log-format text|json] COMMAND …\n\n")
	for _, n := range []string{"create", "start", "run", "state", "kill", "delete", "exec", "ps", "list", "pause", "resume", "update", "events", "spec", "features"} {
		fmt.Fprintln(w, "  muelle-oci "+commands()[n].usage)
	}
}

// fail tells an error where the caller looks for it: on standard error and, in the
// words of other runtimes, in the log file.
func (a *App) fail(err error) int {
	a.say("error", err.Error())
	if a.log != "" && a.log != "/dev/stderr" {
		fmt.Fprintln(a.Stderr, err)
	}
	return 1
}

// say writes one line to the log.
func (a *App) say(level, text string) {
	w := a.Stderr
	if a.log != "" && a.log != "/dev/stderr" {
		f, err := os.OpenFile(a.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_SYNC, 0o644)
		if err != nil {
			fmt.Fprintln(a.Stderr, err)
			return
		}
		defer f.Close()
		w = f
	}
	now := time.Now().UTC().Format(time.RFC3339)
	if a.format == "json" {
		line, _ := json.Marshal(struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
			Time  string `json:"time"`
		}{level, text, now})
		fmt.Fprintln(w, string(line))
		return
	}
	fmt.Fprintf(w, "time=%q level=%s msg=%q\n", now, level, text)
}

// flags is a command's set; the count of arguments is checked by parse.
func flags() *flag.FlagSet {
	f := flag.NewFlagSet("", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	return f
}

// parse reads a command's flags and wants at least so many arguments, and at most
// so many unless that is negative.
func parse(f *flag.FlagSet, args []string, least, most int) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	if n := f.NArg(); n < least || most >= 0 && n > most {
		return fmt.Errorf("%d arguments are given, %d are needed", n, least)
	}
	return nil
}

// repeated is a flag that may be given several times.
type repeated []string

func (r *repeated) String() string     { return strings.Join(*r, ",") }
func (r *repeated) Set(v string) error { *r = append(*r, v); return nil }
