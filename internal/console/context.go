package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"muelle/api"
)

// DefaultContext is the name of no context: the environment or the default socket.
const DefaultContext = "default"

// Context is a named address of a daemon.
type Context struct {
	Name        string
	Description string `json:",omitempty"`
	Host        string
	// CA, Cert and Key are PEM texts; on the way in they may be names of files.
	CA         string `json:",omitempty"`
	Cert       string `json:",omitempty"`
	Key        string `json:",omitempty"`
	SkipVerify bool   `json:",omitempty"`
	// Docker says that it is one of Docker's own.
	Docker bool `json:"-"`
}

// Contexts is the store of them: one JSON file each in ~/.muelle/contexts. Under the
// name docker it is Docker's in ~/.docker, as Docker's client keeps it; those of
// muelle can be named there, but not changed.
type Contexts struct{ o *Options }

// Contexts returns the store.
func (o *Options) Contexts() Contexts { return Contexts{o} }

func (c Contexts) home() string { return filepath.Join(c.o.getenv("HOME"), ".muelle") }

func (c Contexts) file(name string) string {
	return filepath.Join(c.home(), "contexts", name+".json")
}

// ours says that the home directory is this user's own: after setpriv, and some
// sudo, HOME is another's, and with it the context there.
func (c Contexts) ours() bool {
	fi, err := os.Stat(c.o.getenv("HOME"))
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

type contextConfig struct {
	CurrentContext string `json:"currentContext"`
}

// Current names the context that counts: the given one, that of the environment,
// the one in use, "default".
func (c Contexts) Current(given string) (string, error) {
	if given != "" {
		return given, nil
	}
	if c.o.Name == "docker" {
		if n := c.o.getenv("DOCKER_CONTEXT"); n != "" {
			return n, nil
		}
		cfg, err := c.o.DockerConfig()
		if err != nil {
			return "", err
		}
		if cfg.CurrentContext != "" {
			return cfg.CurrentContext, nil
		}
		return DefaultContext, nil
	}
	if n := c.o.getenv("MUELLE_CONTEXT"); n != "" {
		return n, nil
	}
	b, err := os.ReadFile(filepath.Join(c.home(), "config.json"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) && !c.ours() {
		return DefaultContext, nil
	}
	if err != nil {
		return "", fmt.Errorf("read the current context: %w", err)
	}
	var cfg contextConfig
	if err := json.Unmarshal(b, &cfg); err != nil {
		return "", fmt.Errorf("read %s: %w", filepath.Join(c.home(), "config.json"), err)
	}
	if cfg.CurrentContext == "" {
		return DefaultContext, nil
	}
	return cfg.CurrentContext, nil
}

// Use makes a context the current one.
func (c Contexts) Use(name string) error {
	if name != DefaultContext {
		if _, err := c.Get(name); err != nil {
			return err
		}
	}
	cfg := contextConfig{}
	if name != DefaultContext {
		cfg.CurrentContext = name
	}
	if c.o.Name == "docker" {
		return c.useDocker(cfg.CurrentContext)
	}
	return writeJSON(filepath.Join(c.home(), "config.json"), cfg)
}

// Get reads a context; "default" is what would be used without one.
func (c Contexts) Get(name string) (Context, error) {
	if name == DefaultContext {
		host := c.o.getenv("MUELLE_HOST")
		if h := c.o.getenv("DOCKER_HOST"); c.o.Name == "docker" && h != "" {
			host = h
		}
		if host == "" {
			host = "unix://" + api.DefaultSocket
		}
		return Context{Name: name, Host: host, Description: "Current " + c.o.HostVar() + " based configuration"}, nil
	}
	notFound := fmt.Errorf("context %q: context not found", name)
	if !validContext.MatchString(name) {
		return Context{}, notFound
	}
	var docker error
	if c.o.Name == "docker" {
		var x Context
		if x, docker = c.dockerContext(name); docker == nil {
			return x, nil
		}
	}
	b, err := os.ReadFile(c.file(name))
	if errors.Is(err, os.ErrNotExist) {
		return Context{}, errors.Join(docker, orNil(docker == nil, notFound))
	}
	if err != nil {
		return Context{}, fmt.Errorf("context %q: %w", name, err)
	}
	var x Context
	if err := json.Unmarshal(b, &x); err != nil {
		return Context{}, fmt.Errorf("context %q: %w", name, err)
	}
	return x, nil
}

func (c Contexts) endpoint(name string) (Endpoint, error) {
	x, err := c.Get(name)
	if err != nil {
		return Endpoint{}, err
	}
	e := Endpoint{Host: x.Host, Context: name}
	if x.CA != "" || x.Cert != "" || x.SkipVerify {
		e.TLS, err = loadTLS(x.CA, x.Cert, x.Key, x.SkipVerify)
	}
	return e, err
}

// Save writes a context; it must not exist unless replace is set.
func (c Contexts) Save(x Context, replace bool) error {
	if x.Name == DefaultContext {
		return errors.New(`"default" is a reserved context name`)
	}
	if !validContext.MatchString(x.Name) {
		return fmt.Errorf("context name %q is invalid, names are validated against regexp %q", x.Name, contextNames)
	}
	if _, err := c.Get(x.Name); err == nil && !replace {
		return fmt.Errorf("context %q already exists", x.Name)
	}
	host, err := normalizeHost(x.Host)
	if err != nil {
		return err
	}
	x.Host = host
	// The material is kept, not where it lay: the context outlives the files.
	for _, field := range []*string{&x.CA, &x.Cert, &x.Key} {
		if *field == "" {
			continue
		}
		pem, err := pemOf(*field)
		if err != nil {
			return fmt.Errorf("context %q: %w", x.Name, err)
		}
		*field = string(pem)
	}
	if c.o.Name == "docker" {
		return c.saveDocker(x)
	}
	return writeJSON(c.file(x.Name), x)
}

func orNil(ok bool, err error) error {
	if ok {
		return err
	}
	return nil
}

// Remove deletes a context; the one in use only by force.
func (c Contexts) Remove(name string, force bool) error {
	if name == DefaultContext {
		return errors.New(`context "default" cannot be removed`)
	}
	current, err := c.Current("")
	if err != nil {
		return err
	}
	if current == name {
		if !force {
			return fmt.Errorf("context %q is in use, set -f flag to force remove", name)
		}
		if err := c.Use(DefaultContext); err != nil {
			return err
		}
	}
	if c.o.Name == "docker" {
		return c.removeDocker(name, force)
	}
	err = os.Remove(c.file(name))
	if errors.Is(err, os.ErrNotExist) && !force {
		return fmt.Errorf("context %q does not exist", name)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// List returns all contexts by name, "default" first among them.
func (c Contexts) List() ([]Context, error) {
	def, err := c.Get(DefaultContext)
	if err != nil {
		return nil, err
	}
	all := []Context{def}
	entries, err := os.ReadDir(filepath.Join(c.home(), "contexts"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		x, err := c.Get(name)
		if err != nil {
			return nil, err
		}
		all = append(all, x)
	}
	if c.o.Name == "docker" {
		more, err := c.dockerContexts()
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	slices.SortStableFunc(all, func(a, b Context) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

const contextNames = `^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$`

// contextName compiles contextNames when it is first needed only.
type contextName struct{}

var validContext contextName

// MatchString says whether s may name a context, and so a file.
func (contextName) MatchString(s string) bool { return regexp.MustCompile(contextNames).MatchString(s) }

func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	if _, err = tmp.Write(append(b, '\n')); err == nil {
		err = tmp.Close()
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return nil
}
