package why

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"muelle/api"
	"muelle/internal/why/program"
)

// neverStarted explains a container that was created only: what it waits for, where
// it belongs to a project.
func (f *facts) neverStarted() []api.WhyFinding {
	if f.e.Started || f.last != nil {
		return nil
	}
	out := f.dependencies()
	return append(out, f.finding("never-started", "It was created and never started.").
		because("state", "created").do("muelle start %s", f.e.Name).f)
}

const runtimePrefix = "unable to start container process: "

// startFailed explains why the last start failed.
func (f *facts) startFailed() []api.WhyFinding {
	text := f.failedStart()
	if text == "" {
		return nil
	}
	if i := strings.Index(text, runtimePrefix); i >= 0 {
		text = strings.TrimSuffix(text[i+len(runtimePrefix):], ": unknown")
	}
	for _, c := range []struct {
		part string
		say  func(text string) *builder
	}{
		{"executable file not found", f.noProgram},
		{"no such file or directory", f.noProgram},
		{"exec format error", f.noProgram},
		{"is a directory", f.noProgram},
		{"permission denied", f.noProgram},
		{"chdir to cwd", f.noWorkdir},
		{"unable to find user", f.noUser},
		{"unable to find group", f.noUser},
		{"port is already allocated", f.portTaken},
		{"address already in use", f.portTaken},
		{"cannot assign requested address", f.noAddress},
		{"bind source path does not exist", f.noSource},
	} {
		if strings.Contains(text, c.part) {
			if b := c.say(text); b != nil {
				return b.because("state", "%s", text).one()
			}
		}
	}
	return f.finding("start-failed", "It could not be started: %s.", text).because("state", "exit code %d", f.last.Code).one()
}

// examine looks at the program that the container was to run.
func (f *facts) examine(name string) *program.Report {
	root := f.rootDir()
	if root == nil || name == "" {
		return nil
	}
	o := program.Options{Name: name, Env: f.e.Config.Env, Cwd: f.e.Config.WorkingDir}
	if f.e.State.Pid == 0 {
		for _, m := range f.e.Mounts {
			o.Mounts = append(o.Mounts, program.Mount{At: m.Destination, Source: m.Source})
		}
	}
	return program.Examine(root, o)
}

func (f *facts) noProgram(text string) *builder {
	if !strings.HasPrefix(text, "exec") {
		return nil // another file is spoken of
	}
	if r := f.examine(f.e.Path); r != nil {
		return f.program(r, f.e.Path)
	}
	return nil
}

// program says what is wrong with a program; nil: nothing is.
func (f *facts) program(r *program.Report, name string) *builder {
	switch {
	case r.Kind == program.Missing:
		return f.missing(r, name)
	case r.Kind == program.Directory:
		return f.finding("is-directory", "%s is a directory: it cannot be run.", r.Path).because("image", "%s is a directory", r.Path).
			do("Name a program inside it: muelle run %s %s/PROGRAM", f.e.Config.Image, r.Path)
	case !r.Executable:
		b := f.finding("not-executable", "%s is not executable: no permission to execute is set on it.", r.Path)
		if m := f.mountOf(r.Path); m != nil && m.Type == mount.TypeBind {
			on := m.Source + strings.TrimPrefix(r.Path, m.Destination)
			return b.because("mounts", "%s, which is there by a mount, has mode %#o", on, r.Mode.Perm()).do("On the host: chmod +x %s", on)
		}
		return b.because("image", "%s has mode %#o", r.Path, r.Mode.Perm()).
			do("In the Dockerfile: COPY --chmod=755 … or RUN chmod +x %s", r.Path)
	case r.Foreign:
		return f.finding("wrong-architecture", "%s was built for %s, this machine is %s.", r.Path, r.Arch, runtime.GOARCH).
			because("image", "%s is an ELF file for %s", r.Path, r.Arch).
			do("muelle build --platform linux/%s …, or pull that variant: muelle pull --platform linux/%s %s", runtime.GOARCH, runtime.GOARCH, f.e.Config.Image)
	case r.Kind == program.Script:
		return f.script(r)
	case r.Kind == program.ELF:
		return f.loader(r)
	case r.Kind == program.Other:
		return f.finding("not-a-program", "%s is neither an ELF program nor a script that begins with #!.", r.Path).
			because("image", "%s has no known beginning", r.Path).
			do("Begin the script with a line such as #!/bin/sh").do("Or name the interpreter: muelle run %s sh %s", f.e.Config.Image, r.Path)
	}
	return nil
}

func (f *facts) missing(r *program.Report, name string) *builder {
	b := f.finding("missing-program", "The program %s does not exist in the image.", name)
	if len(r.Searched) > 0 {
		b.f.What = fmt.Sprintf("There is no program %q in any folder of PATH.", name)
		b.because("image", "searched %s", strings.Join(r.Searched, ", "))
	} else {
		b.because("image", "no file %s", name)
	}
	for _, m := range f.e.Mounts {
		if path.IsAbs(name) && within(name, m.Destination) {
			return b.because("mounts", "%s is mounted over by %s", m.Destination, source(m)).
				do("The mount at %s hides what the image has there: put the program into it, or mount elsewhere", m.Destination)
		}
	}
	if strings.Contains(name, " ") {
		return b.do("A command and its arguments are words of their own: leave the quotes away, or use sh -c '%s'", name)
	}
	if r.Similar != "" {
		return b.do("Did you mean %s?", r.Similar)
	}
	if slices.Contains([]string{"sh", "/bin/sh", "bash", "/bin/bash"}, name) {
		b.do("An image without a shell runs its own program only: in the Dockerfile, write CMD and ENTRYPOINT as a JSON list")
	}
	return b.do("See what the image runs by itself: muelle inspect -f '{{.Config.Entrypoint}} {{.Config.Cmd}}' %s", f.e.Config.Image)
}

func (f *facts) script(r *program.Report) *builder {
	switch {
	case r.CRLF:
		return f.finding("crlf", "%s has Windows line endings: the kernel looks for the interpreter %q, with a carriage return at its end.", r.Path, strings.TrimPrefix(r.Shebang, "#!")).
			because("image", "the first line of %s is %q", r.Path, r.Shebang).
			do("sed -i 's/\\r$//' %s, and build again", path.Base(r.Path)).
			do("To keep git from doing it: a line \"*.sh text eol=lf\" in .gitattributes")
	case r.InterpreterMissing:
		return f.finding("missing-interpreter", "%s is a script for %s, which is not in the image.", r.Path, r.Interpreter).
			because("image", "the first line of %s is %q", r.Path, r.Shebang).because("image", "no file %s", r.Interpreter).
			do("Install it in the Dockerfile, or write the script for an interpreter that is there (#!/bin/sh)")
	case r.EnvMissing != "":
		return f.finding("missing-interpreter", "%s is a script for %s, which is not in the image.", r.Path, r.EnvMissing).
			because("image", "the first line of %s is %q", r.Path, r.Shebang).because("image", "no program %s in PATH", r.EnvMissing).
			do("Install %s in the Dockerfile", r.EnvMissing)
	}
	return nil
}

func (f *facts) loader(r *program.Report) *builder {
	switch {
	case r.InterpreterMissing:
		b := f.finding("missing-loader", "%s is there, but the loader that it needs is not: %s.", r.Path, r.Interpreter).
			because("image", "%s asks for %s (PT_INTERP)", r.Path, r.Interpreter).because("image", "no file %s", r.Interpreter)
		switch {
		case strings.Contains(r.OtherLoader, "musl"):
			b.f.What += " It was built for glibc, and the image has musl (Alpine)."
			b.because("image", "%s is there", r.OtherLoader).do("Build it on Alpine, or use an image with glibc (debian:…-slim)")
		case r.OtherLoader != "":
			b.f.What += " It was built for musl (Alpine), and the image has glibc."
			b.because("image", "%s is there", r.OtherLoader).do("Build it on the image's own distribution, or use an Alpine image")
		default:
			b.f.What += " The image has no C library at all."
			b.do("Use an image with the C library it was built for (debian:…-slim, or alpine for musl)")
		}
		return b.do("Or link it statically (Go: CGO_ENABLED=0, C: -static)")
	case len(r.Libraries) > 0:
		b := f.finding("missing-library", "%s needs the library %s, which is not in the image.", r.Path, r.Libraries[0].Name)
		for _, l := range r.Libraries {
			b.because("image", "%s needs %s (DT_NEEDED), and no folder of the loader has it", l.NeededBy, l.Name)
		}
		return b.do("Install the package that has %s in the Dockerfile's last stage", r.Libraries[0].Name)
	}
	return nil
}

func (f *facts) noWorkdir(text string) *builder {
	return f.finding("workdir", "The working directory %s cannot be entered.", f.e.Config.WorkingDir).
		do("It must be a directory that user %q may enter: in the Dockerfile WORKDIR %s, or another one with --workdir", f.user(), f.e.Config.WorkingDir)
}

func (f *facts) user() string {
	if f.e.Config.User == "" {
		return "root"
	}
	return f.e.Config.User
}

func (f *facts) noUser(string) *builder {
	return f.finding("no-user", "The image knows no user or group %q.", f.e.Config.User).
		because("image", "no such line in /etc/passwd or /etc/group").
		do("Give a number, which needs no entry: --user 1000:1000").do("Or in the Dockerfile: RUN adduser -D %s", strings.Split(f.e.Config.User, ":")[0])
}

func (f *facts) noSource(text string) *builder {
	_, at, _ := strings.Cut(text, "does not exist: ")
	return f.finding("missing-source", "The folder or file %s, which is to be mounted, does not exist on this host.", at).
		do("mkdir -p %s", at).do("Or let it be made: -v %s:TARGET, --mount type=bind,…,bind-create-src, in Compose bind: {create_host_path: true}", at)
}

func within(name, dir string) bool {
	return dir == "/" || name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

func source(m ctypes.MountPoint) string {
	if m.Name != "" {
		return "volume " + m.Name
	}
	if m.Source != "" {
		return m.Source
	}
	return string(m.Type)
}
