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
