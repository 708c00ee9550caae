package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/term"
	"github.com/spf13/cobra"

	"muelle/internal/console"
)

func (a *app) login() *cobra.Command {
	var user, password string
	var fromStdin bool
	c := a.command("login [OPTIONS] [SERVER]", "Authenticate to a registry", maxArgs(1), func(ctx context.Context, args []string) error {
		server := console.DockerHub
		if len(args) > 0 {
			server = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://"), "/")
			if server == "docker.io" || server == "index.docker.io" || server == "index.docker.io/v1" {
				server = console.DockerHub
			}
		}
		if fromStdin {
			if password != "" {
				return errors.New("conflicting options: cannot specify both --password and --password-stdin")
			}
			if user == "" {
				return errors.New("the --password-stdin option requires --username to be set")
			}
			b, err := io.ReadAll(a.In)
			if err != nil {
				return err
			}
			password = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
		} else if password != "" {
			_, _ = fmt.Fprintln(a.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
		}
		return a.loginTo(ctx, server, user, password)
	})
	f := c.Flags()
	f.StringVarP(&user, "username", "u", "", "Username")
	f.StringVarP(&password, "password", "p", "", "Password or Personal Access Token (PAT)")
	f.BoolVar(&fromStdin, "password-stdin", false, "Take the Password or Personal Access Token (PAT) from stdin")
	c.Long = "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified."
	return c
}

func (a *app) loginTo(ctx context.Context, server, user, password string) error {
	cfg, err := a.where.DockerConfig()
	if err != nil {
		return err
	}
	auth := registry.AuthConfig{ServerAddress: server, Username: user, Password: password}
	if user == "" && password == "" {
		known, err := cfg.Get(server)
		if err != nil {
			return err
		}
		if known != nil && (known.Password != "" || known.IdentityToken != "") {
			_, _ = fmt.Fprint(a.Out, "Authenticating with existing credentials...")
			if known.Username != "" {
				_, _ = fmt.Fprintf(a.Out, " [Username: %s]", known.Username)
			}
			_, _ = fmt.Fprintln(a.Out)
			auth = *known
		}
	}
	if auth.IdentityToken == "" {
		if err := a.askCredentials(&auth); err != nil {
			return err
		}
	}
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	res, err := c.System.Login(ctx, auth)
	if err != nil {
		return err
	}
	if res.IdentityToken != "" {
		auth.Password, auth.IdentityToken = "", res.IdentityToken
	}
	if err := cfg.Store(auth); err != nil {
		return fmt.Errorf("error saving credentials: %w", err)
	}
	if res.Status != "" {
		_, _ = fmt.Fprintln(a.Out, res.Status)
	}
	return nil
}

func (a *app) askCredentials(auth *registry.AuthConfig) error {
	if (auth.Username == "" || auth.Password == "") && !console.IsTerminal(a.In) {
		return errors.New("Error: Cannot perform an interactive login from a non TTY device")
	}
	in := bufio.NewReader(a.In)
	if auth.Username == "" {
		_, _ = fmt.Fprint(a.Out, "Username: ")
		s, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if auth.Username = strings.TrimSpace(s); auth.Username == "" {
			return errors.New("username is required")
		}
	}
	if auth.Password == "" {
		fd, _ := console.FD(a.In)
		st, err := term.SaveState(fd)
		if err != nil {
			return err
		}
		_, _ = fmt.Fprint(a.Out, "Password: ")
		if err := term.DisableEcho(fd, st); err != nil {
			return err
		}
		s, err := in.ReadString('\n')
		_ = term.RestoreTerminal(fd, st)
		_, _ = fmt.Fprintln(a.Out)
		if err != nil {
			return err
		}
		if auth.Password = strings.TrimSpace(s); auth.Password == "" {
			return errors.New("password is required")
		}
	}
	return nil
}

func (a *app) logout() *cobra.Command {
	c := a.command("logout [SERVER]", "Log out from a registry", maxArgs(1), func(_ context.Context, args []string) error {
		server := console.DockerHub
		if len(args) > 0 {
			server = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://"), "/")
		}
		cfg, err := a.where.DockerConfig()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(a.Out, "Removing login credentials for", server)
		if err := cfg.Erase(server); err != nil {
			return fmt.Errorf("could not erase credentials: %w", err)
		}
		return nil
	})
	c.Long = "Log out from a registry.\nIf no server is specified, the default is defined by the daemon."
	return c
}

type searchRow struct {
	trunc bool
	r     registry.SearchResult
}

func (r *searchRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// Name is the repository's.
func (r *searchRow) Name() string { return r.r.Name }

// Description is one line.
func (r *searchRow) Description() string {
	s := strings.ReplaceAll(strings.ReplaceAll(r.r.Description, "\n", " "), "\r", " ")
	if r.trunc {
		return console.Ellipsis(s, 45)
	}
	return s
}

// StarCount counts stars.
func (r *searchRow) StarCount() string { return fmt.Sprint(r.r.StarCount) }

// IsOfficial marks official images.
func (r *searchRow) IsOfficial() string {
	if r.r.IsOfficial {
		return "[OK]"
	}
	return ""
}

func (a *app) search() *cobra.Command {
	var filter filters
	var format string
	var limit int
	var noTrunc bool
	c := a.command("search [OPTIONS] TERM", "Search Docker Hub for images", exactArgs(1), func(ctx context.Context, args []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		n := ""
		if limit > 0 {
			n = fmt.Sprint(limit)
		}
		found, err := c.Images.Search(ctx, args[0], n, filter.Filters, nil)
		if err != nil {
			return err
		}
		source := pick(format, "")
		if source == "table" {
			source = `table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}`
		}
		t := console.Table{Out: a.Out, Format: source, Headers: map[string]string{"Name": titleName, "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL"}}
		return t.Write(rowsOf(found, func(r registry.SearchResult) any { return &searchRow{!noTrunc, r} })...)
	})
	f := c.Flags()
	f.BoolVar(&noTrunc, "no-trunc", false, "Don't truncate output")
	f.VarP(&filter, "filter", "f", "Filter output based on conditions provided")
	f.IntVar(&limit, "limit", 0, "Max number of search results")
	f.StringVar(&format, "format", "", "Pretty-print search using a Go template")
	return c
}
