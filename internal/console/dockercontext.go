package console

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

type dockerMeta struct {
	Name     string
	Metadata struct{ Description string }
	// Endpoints by kind; "docker" is the one that counts.
	Endpoints map[string]struct {
		Host          string
		SkipTLSVerify bool
	}
}

func (c Contexts) dockerContext(name string) (Context, error) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	b, err := os.ReadFile(filepath.Join(c.o.DockerDir(), "contexts", "meta", id, "meta.json"))
	if err != nil {
		return Context{}, fmt.Errorf("context %q: context not found: open %s: no such file or directory", name, filepath.Join(c.o.DockerDir(), "contexts", "meta", id, "meta.json"))
	}
	var m dockerMeta
	if err := json.Unmarshal(b, &m); err != nil {
		return Context{}, fmt.Errorf("context %q: %w", name, err)
	}
	x := Context{Name: name, Description: m.Metadata.Description, Host: m.Endpoints["docker"].Host, SkipVerify: m.Endpoints["docker"].SkipTLSVerify, Docker: true}
	dir := filepath.Join(c.o.DockerDir(), "contexts", "tls", id, "docker")
	for file, field := range map[string]*string{"ca.pem": &x.CA, "cert.pem": &x.Cert, "key.pem": &x.Key} {
		if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
			*field = filepath.Join(dir, file)
		}
	}
	return x, nil
}

// dockerPlace are the folders of one of Docker's contexts: its document and its
// certificates.
func (c Contexts) dockerPlace(name string) (meta, tls string) {
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:])
	dir := filepath.Join(c.o.DockerDir(), "contexts")
	return filepath.Join(dir, "meta", id), filepath.Join(dir, "tls", id)
}

// saveDocker writes a context as Docker's client does.
func (c Contexts) saveDocker(x Context) error {
	meta, tls := c.dockerPlace(x.Name)
	if err := os.RemoveAll(tls); err != nil {
		return err
	}
	for file, pem := range map[string]string{"ca.pem": x.CA, "cert.pem": x.Cert, "key.pem": x.Key} {
		if pem == "" {
			continue
		}
		dir := filepath.Join(tls, "docker")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(pem), 0o600); err != nil {
			return err
		}
	}
	return writeJSON(filepath.Join(meta, "meta.json"), x.Document())
}

// removeDocker deletes one of Docker's contexts.
func (c Contexts) removeDocker(name string, force bool) error {
	meta, tls := c.dockerPlace(name)
	if _, err := os.Stat(meta); errors.Is(err, os.ErrNotExist) && !force {
		return fmt.Errorf("context %q does not exist", name)
	}
	return errors.Join(os.RemoveAll(meta), os.RemoveAll(tls))
}

// useDocker makes a context the current one of Docker's client; empty means none.
func (c Contexts) useDocker(name string) error {
	cfg, err := c.o.DockerConfig()
	if err != nil {
		return err
	}
	return cfg.change(func(all map[string]any) {
		if name == "" {
			delete(all, "currentContext")
			return
		}
		all["currentContext"] = name
	})
}

// ContextDocument is a context as Docker keeps and shows it.
type ContextDocument struct {
	Name      string
	Metadata  map[string]any
	Endpoints map[string]ContextEndpoint
}

// ContextEndpoint is the daemon's address in a ContextDocument.
type ContextEndpoint struct {
	Host          string
	SkipTLSVerify bool
}

// Document gives the context in Docker's form, without certificates.
func (x Context) Document() ContextDocument {
	d := ContextDocument{Name: x.Name, Metadata: map[string]any{}, Endpoints: map[string]ContextEndpoint{"docker": {x.Host, x.SkipVerify}}}
	if x.Description != "" {
		d.Metadata["Description"] = x.Description
	}
	return d
}

// Storage tells where a context and its certificates lie. A context of muelle keeps
// both in one file.
func (c Contexts) Storage(x Context) (meta, tls string) {
	switch {
	case x.Name == DefaultContext:
		return "<IN MEMORY>", "<IN MEMORY>"
	case x.Docker:
		return c.dockerPlace(x.Name)
	}
	return c.file(x.Name), c.file(x.Name)
}

func (c Contexts) dockerContexts() ([]Context, error) {
	dir := filepath.Join(c.o.DockerDir(), "contexts", "meta")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Context
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name(), "meta.json"))
		if err != nil {
			return nil, err
		}
		var m dockerMeta
		if err := json.Unmarshal(b, &m); err != nil {
			return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, e.Name()), err)
		}
		all = append(all, Context{Name: m.Name, Description: m.Metadata.Description, Host: m.Endpoints["docker"].Host, Docker: true})
	}
	return all, nil
}
