// Package model is a Compose project on the client's side: it loads the files as
// Docker Compose does, refuses what Muelle does not do yet, computes Docker Compose's
// hashes, and translates the result into the document that the daemon reconciles.
package model

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/consts"
	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

// Options say which project to load.
type Options struct {
	Files      []string // -f; empty: COMPOSE_FILE, or compose.yaml found upwards
	EnvFiles   []string // --env-file; empty: .env
	Profiles   []string
	Name       string // -p
	ProjectDir string // --project-directory
	Services   []string
	// AllResources keeps networks and volumes that no service uses.
	AllResources bool
	// Lenient skips environment files, the schema and the check for unsupported
	// attributes: for commands that need names only.
	Lenient bool
	// NoInterpolate, NoNormalize, NoConsistency, NoPathResolution and NoEnvResolution
	// are flags of config.
	NoInterpolate, NoNormalize, NoConsistency, NoPathResolution, NoEnvResolution bool
	// Warn receives each warning once, as one line.
	Warn func(string)
}

// Load reads the project. What is loaded, in which order and with which
// precedence, is Docker Compose's; only the .env of the working directory counts
// too where the first file lies elsewhere, as Docker's documentation (not its
// program) has it.
func Load(ctx context.Context, o Options) (*types.Project, error) {
	dotenv.RegisterFormat("raw", rawEnv)
	w := captureWarnings(o)
	defer w.release()
	po, err := projectOptions(&o, w)
	if err != nil {
		return nil, err
	}
	var unsupported []loader.UnsupportedAttribute
	if !o.Lenient {
		check := loader.WithUnsupportedAttributesCheck(screened, func(found []loader.UnsupportedAttribute) { unsupported = found })
		if err := cli.WithLoadOptions(check)(po); err != nil {
			return nil, err
		}
	}
	p, err := loadProject(ctx, po, o)
	if err != nil {
		return nil, readable(err)
	}
	if p, err = selectServices(p, o); err != nil {
		return nil, err
	}
	if err := refuse(p, unsupported, w.warn); err != nil {
		return nil, err
	}
	if err := settlePlatforms(p); err != nil {
		return nil, err
	}
	if !o.Lenient {
		if err := checkHealth(p); err != nil {
			return nil, err
		}
		if err := checkZones(p); err != nil {
			return nil, err
		}
	}
	if o.Lenient || o.NoEnvResolution {
		return p, nil
	}
	return p.WithServicesEnvironmentResolved(true)
}

// loadProject leaves the schema out for lenient loads: compiling it takes longer
// than all the rest. Of files that fail without it, it says best why.
func loadProject(ctx context.Context, po *cli.ProjectOptions, o Options) (*types.Project, error) {
	if !o.Lenient || slices.Contains(po.ConfigPaths, "-") {
		return po.LoadProject(ctx)
	}
	validate := func(on bool) error {
		return cli.WithLoadOptions(func(l *loader.Options) { l.SkipValidation = !on })(po)
	}
	if err := validate(false); err != nil {
		return nil, err
	}
	p, err := po.LoadProject(ctx)
	if err == nil {
		return p, nil
	}
	if err := validate(true); err != nil {
		return nil, err
	}
	return po.LoadProject(ctx)
}

var unknownAttribute = regexp.MustCompile(`^(.*: .*)\.([^.\s]+) false schema$`)

// readable rewords what the schema's library says of an unknown attribute.
func readable(err error) error {
	if m := unknownAttribute.FindStringSubmatch(err.Error()); m != nil {
		return fmt.Errorf("%s additional properties '%s' not allowed", m[1], m[2])
	}
	return err
}

// projectOptions applies the sources in Docker Compose's order: the process's
// environment wins, then the .env of the working directory (or --env-file), which
// may name the files, then that of the project's directory.
func projectOptions(o *Options, w *warnings) (*cli.ProjectOptions, error) {
	for i, f := range o.EnvFiles {
		abs, err := filepath.Abs(f)
		if err != nil {
			return nil, err
		}
		o.EnvFiles[i] = abs
	}
	fns := []cli.ProjectOptionsFn{
		cli.WithoutEnvironmentResolution,
		cli.WithWorkingDirectory(o.ProjectDir),
		cli.WithOsEnv,
	}
	if o.Lenient {
		fns = append(fns, cli.WithDiscardEnvFile)
	}
	if _, ok := os.LookupEnv("PWD"); !ok {
		if wd, err := os.Getwd(); err == nil {
			fns = append(fns, cli.WithEnv([]string{"PWD=" + wd}))
		}
	}
	fns = append(fns,
		cli.WithEnvFiles(o.EnvFiles...), cli.WithDotEnv,
		cli.WithConfigFileEnv, cli.WithDefaultConfigPath,
		cli.WithEnvFiles(o.EnvFiles...), cli.WithDotEnv,
		func(po *cli.ProjectOptions) error { return workingDirEnv(o, po, w) },
		cli.WithDefaultProfiles(o.Profiles...),
		cli.WithName(o.Name),
		cli.WithInterpolation(!o.NoInterpolate),
		cli.WithNormalization(!o.NoNormalize),
		cli.WithConsistency(!o.NoConsistency),
		cli.WithResolvedPaths(!o.NoPathResolution),
	)
	return cli.NewProjectOptions(slices.Clone(o.Files), fns...)
}

// workingDirEnv adds the .env of the working directory where that is not the
// project's, at the lowest precedence, and remembers which files were looked for.
func workingDirEnv(o *Options, po *cli.ProjectOptions, w *warnings) error {
	if len(o.EnvFiles) > 0 {
		w.looked = o.EnvFiles
		return nil
	}
	if off, err := strconv.ParseBool(po.Environment[consts.ComposeDisableDefaultEnvFile]); err == nil && off {
		return nil
	}
	project, err := po.GetWorkingDir()
	if err != nil {
		return err
	}
	w.looked = []string{filepath.Join(project, ".env")}
	here, err := os.Getwd()
	if err != nil || here == project {
		return err
	}
	file := filepath.Join(here, ".env")
	w.looked = append(w.looked, file)
	if st, err := os.Stat(file); err != nil || st.IsDir() {
		return nil
	}
	env, err := dotenv.GetEnvFromFile(po.Environment, []string{file})
	if err != nil {
		return err
	}
	po.Environment.Merge(env)
	return nil
}

// selectServices does what Docker Compose does after loading: enables the services
// asked for, drops the others and the resources that nobody uses.
func selectServices(p *types.Project, o Options) (*types.Project, error) {
	if p.Name == "" {
		return nil, errors.New("project name can't be empty. Use -p to set a valid name")
	}
	p, err := p.WithServicesEnabled(o.Services...)
	if err != nil {
		return nil, err
	}
	if p, err = p.WithSelectedServices(o.Services); err != nil {
		return nil, err
	}
	if !o.AllResources {
		p = p.WithoutUnnecessaryResources()
	}
	return p, nil
}

// rawEnv reads an env_file of format raw: lines KEY=VALUE as they stand, KEY alone
// taken from the environment.
func rawEnv(r io.Reader, filename string, vars map[string]string, lookup func(string) (string, bool)) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read env_file %s: %w", filename, err)
	}
	text := strings.TrimPrefix(string(data), "\ufeff")
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		switch {
		case key == "":
			return fmt.Errorf("env_file %s: no variable name on line '%s'", filename, line)
		case strings.ContainsAny(key, " \t"):
			return fmt.Errorf("env_file %s: variable '%s' contains whitespaces", filename, key)
		case ok:
			vars[key] = value
		default:
			if v, set := lookup(key); set {
				vars[key] = v
			}
		}
	}
	return nil
}
