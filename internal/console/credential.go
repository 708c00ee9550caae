package console

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/registry"
)

// DockerHub is the key of Docker Hub's credentials.
const DockerHub = "https://index.docker.io/v1/"

// DockerConfig is what we read of ~/.docker/config.json.
type DockerConfig struct {
	Auths          map[string]dockerAuth        `json:"auths"`
	CredsStore     string                       `json:"credsStore"`
	CredHelpers    map[string]string            `json:"credHelpers"`
	CurrentContext string                       `json:"currentContext"`
	DetachKeys     string                       `json:"detachKeys"`
	PsFormat       string                       `json:"psFormat"`
	ImagesFormat   string                       `json:"imagesFormat"`
	NetworksFormat string                       `json:"networksFormat"`
	VolumesFormat  string                       `json:"volumesFormat"`
	StatsFormat    string                       `json:"statsFormat"`
	Proxies        map[string]map[string]string `json:"proxies"`
	HTTPHeaders    map[string]string            `json:"HttpHeaders"`
	PluginsDirs    []string                     `json:"cliPluginsExtraDirs"`
	PruneFilters   []string                     `json:"pruneFilters"`
	Plugins        map[string]map[string]string `json:"plugins"`
	path           string
}

type dockerAuth struct {
	Auth          string `json:"auth,omitempty"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// DockerConfig reads the file; a missing one is empty, and one that is somebody
// else's too (HOME is root's after setpriv and some sudo), with a warning as Docker's.
func (o *Options) DockerConfig() (*DockerConfig, error) {
	cfg := &DockerConfig{path: filepath.Join(o.DockerDir(), "config.json")}
	b, err := os.ReadFile(cfg.path)
	if errors.Is(err, os.ErrNotExist) {
		return cfg, nil
	}
	if errors.Is(err, os.ErrPermission) {
		if !o.warned {
			o.warned = true
			o.say("WARNING: Error loading config file: " + err.Error())
		}
		return cfg, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.path, err)
	}
	if err := json.Unmarshal(b, cfg); err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.path, err)
	}
	return cfg, nil
}

// Auth finds the credentials for the registry that an image reference names; nil
// if there are none.
func (o *Options) Auth(ref string) (*registry.AuthConfig, error) {
	r, err := ParseRef(ref)
	if err != nil {
		return nil, err
	}
	cfg, err := o.DockerConfig()
	if err != nil {
		return nil, err
	}
	return cfg.Get(registryKey(r.Domain))
}

func registryKey(domain string) string {
	if domain == "docker.io" || domain == "index.docker.io" {
		return DockerHub
	}
	return domain
}

// Get returns the credentials kept for a registry; nil if there are none.
func (c *DockerConfig) Get(server string) (*registry.AuthConfig, error) {
	if h := c.helper(server); h != "" {
		return askHelper(h, server)
	}
	a, ok := c.Auths[server]
	for key, x := range c.Auths {
		if ok {
			break
		}
		if hostOf(key) == server {
			a, ok = x, true
		}
	}
	if !ok {
		return nil, nil
	}
	out := &registry.AuthConfig{ServerAddress: server, Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Auth != "" {
		b, err := base64.StdEncoding.DecodeString(a.Auth)
		if err != nil {
			return nil, fmt.Errorf("read credentials of %s in %s: %w", server, c.path, err)
		}
		user, pass, ok := strings.Cut(string(b), ":")
		if !ok {
			return nil, fmt.Errorf("read credentials of %s in %s: no colon in auth", server, c.path)
		}
		out.Username, out.Password = user, strings.Trim(pass, "\x00")
	}
	if *out == (registry.AuthConfig{ServerAddress: server}) {
		return nil, nil
	}
	return out, nil
}

func hostOf(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	host, _, _ := strings.Cut(key, "/")
	return host
}

func (c *DockerConfig) helper(server string) string {
	if h, ok := c.CredHelpers[server]; ok {
		return h
	}
	return c.CredsStore
}

type helperCredential struct{ ServerURL, Username, Secret string }

func askHelper(helper, server string) (*registry.AuthConfig, error) {
	out, err := runHelper(helper, "get", server)
	if err != nil {
		if strings.Contains(err.Error(), "credentials not found in native keychain") {
			return nil, nil
		}
		return nil, err
	}
	var h helperCredential
	if err := json.Unmarshal(out, &h); err != nil {
		return nil, fmt.Errorf("read the answer of docker-credential-%s: %w", helper, err)
	}
	a := &registry.AuthConfig{ServerAddress: server, Username: h.Username, Password: h.Secret}
	if h.Username == "<token>" {
		a.Username, a.Password, a.IdentityToken = "", "", h.Secret
	}
	return a, nil
}

func runHelper(helper, verb, in string) ([]byte, error) {
	var out, errOut bytes.Buffer
	cmd := exec.Command("docker-credential-"+helper, verb)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &errOut
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(out.String() + errOut.String())
		return nil, fmt.Errorf("error getting credentials - err: %w, out: `%s`", err, text)
	}
	return out.Bytes(), nil
}

// Store keeps credentials, in the helper if one is configured.
func (c *DockerConfig) Store(a registry.AuthConfig) error {
	if h := c.helper(a.ServerAddress); h != "" {
		x := helperCredential{ServerURL: a.ServerAddress, Username: a.Username, Secret: a.Password}
		if a.IdentityToken != "" {
			x.Username, x.Secret = "<token>", a.IdentityToken
		}
		b, err := json.Marshal(x)
		if err != nil {
			return err
		}
		_, err = runHelper(h, "store", string(b))
		return err
	}
	e := dockerAuth{IdentityToken: a.IdentityToken}
	if a.IdentityToken == "" {
		e.Auth = base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	}
	return c.edit(a.ServerAddress, &e)
}

// Erase forgets credentials; there need not be any.
func (c *DockerConfig) Erase(server string) error {
	if h := c.helper(server); h != "" {
		_, err := runHelper(h, "erase", server)
		return err
	}
	if _, ok := c.Auths[server]; !ok {
		return nil
	}
	return c.edit(server, nil)
}

// edit changes one entry of auths and keeps what else is in the file.
func (c *DockerConfig) edit(server string, e *dockerAuth) error {
	return c.change(func(all map[string]any) {
		auths, _ := all["auths"].(map[string]any)
		if auths == nil {
			auths = map[string]any{}
		}
		if e == nil {
			delete(auths, server)
		} else {
			auths[server] = *e
		}
		all["auths"] = auths
	})
}

// change edits the file and keeps what else is in it.
func (c *DockerConfig) change(edit func(all map[string]any)) error {
	all := map[string]any{}
	b, err := os.ReadFile(c.path)
	if err == nil {
		err = json.Unmarshal(b, &all)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", c.path, err)
	}
	edit(all)
	return writeJSON(c.path, all)
}

// MergePruneFilters adds the configured filters to those given. A label that was given
// the other way round stays as it was given.
func (c *DockerConfig) MergePruneFilters(given map[string][]string) map[string][]string {
	out := map[string][]string{}
	for k, v := range given {
		out[k] = slices.Clone(v)
	}
	for _, f := range c.PruneFilters {
		k, v, ok := strings.Cut(f, "=")
		// "label!=x" is the key "label!" with the value "x".
		opposite := map[string]string{"label": "label!", "label!": "label"}[k]
		if !ok || slices.Contains(given[opposite], v) || slices.Contains(out[k], v) {
			continue
		}
		out[k] = append(out[k], v)
	}
	return out
}
