package cli

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

// execExtension becomes one of the plugins of Docker's client (docker-buildx, …) when
// we are called docker and the word is no command of ours. They are looked for where
// Docker's client does, never by PATH. It returns if there is none.
func (a *app) execExtension(args []string) error {
	if a.name() != "docker" || a.wanted == "" || slices.ContainsFunc(a.entries(), func(e entry) bool { return e.name == a.wanted }) {
		return nil
	}
	path := a.extension(a.wanted)
	if path == "" {
		return nil
	}
	env, err := a.extensionEnv(args)
	if err != nil {
		return err
	}
	return syscall.Exec(path, append([]string{path}, args[1:]...), env)
}

// extension finds a plugin's program.
func (a *app) extension(name string) string {
	if !regexp.MustCompile(`^[a-z][a-z0-9]*$`).MatchString(name) {
		return ""
	}
	for _, d := range a.extensionDirs() {
		path := filepath.Join(d, "docker-"+name)
		if fi, err := os.Stat(path); err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// extensionDirs are where plugins are looked for, first choice first.
func (a *app) extensionDirs() []string {
	cfg, err := a.where.DockerConfig()
	if err != nil {
		return nil
	}
	return append(slices.Clone(cfg.PluginsDirs), filepath.Join(a.where.DockerDir(), "cli-plugins"),
		"/usr/local/lib/docker/cli-plugins", "/usr/local/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins")
}

// extensionPatience bounds the question to a plugin what it is.
const extensionPatience = 2 * time.Second

// listExtensions adds the plugins to the commands that help and completion show, as
// they describe themselves.
func (a *app) listExtensions(ctx context.Context, root *cobra.Command) {
	ctx, cancel := context.WithTimeout(ctx, extensionPatience)
	defer cancel()
	for _, d := range a.extensionDirs() {
		found, err := filepath.Glob(filepath.Join(d, "docker-*"))
		if err != nil {
			continue
		}
		for _, path := range found {
			name := strings.TrimPrefix(filepath.Base(path), "docker-")
			if a.extension(name) != path || slices.ContainsFunc(root.Commands(), func(c *cobra.Command) bool { return c.Name() == name }) {
				continue
			}
			out, err := exec.CommandContext(ctx, path, "docker-cli-plugin-metadata").Output()
			var about struct{ SchemaVersion, ShortDescription string }
			if err != nil || json.Unmarshal(out, &about) != nil || about.SchemaVersion == "" {
				continue // it is none
			}
			c := a.command(name, about.ShortDescription, nil, nothing)
			c.Annotations = map[string]string{kindKey: strconv.Itoa(int(management)), orderKey: strconv.Itoa(len(root.Commands())), pluginKey: "*"}
			root.AddCommand(c)
		}
	}
}

// extensionEnv tells a plugin where the daemon is: it reads Docker's flags, variables
// and contexts itself, but its default is Docker's socket.
func (a *app) extensionEnv(args []string) ([]string, error) {
	env := append(os.Environ(), "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND="+args[0])
	for _, x := range args[1:] {
		if x == a.wanted {
			break
		}
		if slices.ContainsFunc([]string{"-H", "-c", "--host", "--context"}, func(f string) bool { return strings.HasPrefix(x, f) }) {
			return env, nil // it is among the flags, which the plugin is given too
		}
	}
	e, err := console.Find(a.where)
	if err != nil {
		return nil, err
	}
	if e.Context == console.DefaultContext {
		env = append(env, "DOCKER_HOST="+e.Host)
	}
	return env, nil
}

// pruneFilters adds those that config.json always wants, which protect objects from
// every prune; what the command line says of a label goes before them.
func (a *app) pruneFilters(given client.Filters) (client.Filters, error) {
	cfg, err := a.where.DockerConfig()
	if err != nil || len(cfg.PruneFilters) == 0 {
		return given, err
	}
	return cfg.MergePruneFilters(given), nil
}

// proxies are those of config.json for the daemon that is meant, or the default ones.
func (a *app) proxies() (map[string]string, error) {
	cfg, err := a.where.DockerConfig()
	if err != nil || len(cfg.Proxies) == 0 {
		return nil, err
	}
	e, err := console.Find(a.where)
	if err != nil {
		return nil, err
	}
	if p, ok := cfg.Proxies[e.Host]; ok {
		return p, nil
	}
	return cfg.Proxies["default"], nil
}
