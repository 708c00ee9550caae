package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/system"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/console"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

type clientVersion struct {
	Platform          *struct{ Name string } `json:",omitempty"`
	Version           string
	APIVersion        string `json:"ApiVersion"`
	DefaultAPIVersion string
	GitCommit         string
	GoVersion         string
	Os                string
	Arch              string
	BuildTime         string `json:",omitempty"`
	Context           string
}

type versionInfo struct {
	Client clientVersion
	Server *system.VersionResponse
}

const versionFormat = `{{with .Client -}}
Client:
 Version:	{{.Version}}
 API version:	{{.APIVersion}}{{if ne .APIVersion .DefaultAPIVersion}} (downgraded from {{.DefaultAPIVersion}}){{end}}
 Go version:	{{.GoVersion}}
 Git commit:	{{.GitCommit}}
 Built:	{{.BuildTime}}
 OS/Arch:	{{.Os}}/{{.Arch}}
 Context:	{{.Context}}
{{- end}}

{{- if .Server}}{{with .Server}}

Server:{{if .Platform.Name}} {{.Platform.Name}}{{end}}
 {{- range $c := .Components}}
 {{$c.Name}}:
  {{- if eq $c.Name "Engine"}}
  Version:	{{.Version}}
  API version:	{{index .Details "ApiVersion"}} (minimum version {{index .Details "MinAPIVersion"}})
  Go version:	{{index .Details "GoVersion"}}
  Git commit:	{{index .Details "GitCommit"}}
  Built:	{{index .Details "BuildTime"}}
  OS/Arch:	{{index .Details "Os"}}/{{index .Details "Arch"}}
  Experimental:	{{index .Details "Experimental"}}
  {{- else}}
  Version:	{{$c.Version}}
  {{- range $k, $v := $c.Details}}
  {{$k}}:	{{$v}}
  {{- end}}
  {{- end}}
 {{- end}}
{{- end}}{{end}}`

func (a *app) clientVersion(contextName string) clientVersion {
	return clientVersion{Version: a.build.Version, APIVersion: api.DefaultVersion, DefaultAPIVersion: api.DefaultVersion, GitCommit: a.build.Commit,
		GoVersion: runtime.Version(), Os: runtime.GOOS, Arch: runtime.GOARCH, BuildTime: ansiTime(a.build.Time), Context: contextName}
}

func ansiTime(s string) string {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.Format(time.ANSIC)
	}
	return s
}

func (a *app) contextName() string {
	if len(a.where.Hosts) > 0 {
		return console.DefaultContext
	}
	e, err := console.Find(a.where)
	if err != nil {
		return console.DefaultContext
	}
	return e.Context
}

func (a *app) version() *cobra.Command {
	var format string
	var clientOnly bool
	c := a.command("version [OPTIONS]", "Show the version information", noArgs, func(ctx context.Context, _ []string) error {
		source := versionFormat
		switch format {
		case "":
		case "json":
			source = "{{json .}}"
		default:
			source = format
		}
		t, err := console.Template(source)
		if err != nil {
			return statusError{64, err.Error()}
		}
		v := versionInfo{Client: a.clientVersion(a.contextName())}
		var serverErr error
		if !clientOnly {
			v.Server, serverErr = a.serverVersion(ctx, &v)
		}
		w := tabwriter.NewWriter(a.Out, 20, 1, 1, ' ', 0)
		if err := t.Execute(w, v); err != nil {
			return errors.Join(serverErr, err)
		}
		_, _ = w.Write([]byte("\n"))
		return errors.Join(serverErr, w.Flush())
	})
	c.Flags().StringVarP(&format, "format", "f", "", inspectFormatHelp)
	c.Flags().BoolVar(&clientOnly, "client", false, "Show the client's version only, without asking the server")
	return c
}

func (a *app) serverVersion(ctx context.Context, v *versionInfo) (*system.VersionResponse, error) {
	c, err := a.api(ctx)
	if err != nil {
		return nil, console.Explain(a.where, err)
	}
	s, err := c.System.Version(ctx)
	if err != nil {
		return nil, console.Explain(a.where, err)
	}
	if v.Client.APIVersion, err = c.Version(ctx); err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.Components, func(c system.ComponentVersion) bool { return c.Name == "Engine" })
	if i >= 0 {
		if t, ok := s.Components[i].Details["BuildTime"]; ok {
			s.Components[i].Details["BuildTime"] = ansiTime(t)
		}
		return &s, nil
	}
	s.Components = append(s.Components, system.ComponentVersion{Name: "Engine", Version: s.Version, Details: map[string]string{
		"ApiVersion": s.APIVersion, "MinAPIVersion": s.MinAPIVersion, "GitCommit": s.GitCommit, "GoVersion": s.GoVersion,
		"Os": s.Os, "Arch": s.Arch, "BuildTime": ansiTime(s.BuildTime), "Experimental": strconv.FormatBool(s.Experimental)}})
	return &s, nil
}

func (a *app) events() *cobra.Command {
	var since, until, format string
	var filter filters
	c := a.command("events [OPTIONS]", "Get real time events from the server", noArgs, func(ctx context.Context, _ []string) error {
		var t *template.Template
		if format != "" {
			source := format
			if source == "json" {
				source = "{{json .}}"
			}
			var err error
			if t, err = template.New("").Parse(""); err == nil {
				t, err = console.Template(source)
			}
			if err == nil {
				err = t.Execute(io.Discard, &eventRow{})
			}
			if err != nil {
				return statusError{64, "Error parsing format: " + err.Error()}
			}
		}
		now := time.Now()
		var err error
		if since, err = timestamp(since, now); err != nil {
			return fmt.Errorf(`invalid value for "since": %w`, err)
		}
		if until, err = timestamp(until, now); err != nil {
			return fmt.Errorf(`invalid value for "until": %w`, err)
		}
		return a.streamEvents(ctx, since, until, filter.Filters, t)
	})
	f := c.Flags()
	f.StringVar(&since, "since", "", "Show all events created since timestamp")
	f.StringVar(&until, "until", "", "Stream events until this timestamp")
	f.VarP(&filter, "filter", "f", "Filter output based on conditions provided")
	f.StringVar(&format, "format", "", inspectFormatHelp)
	return a.also(c, "system events", "events")
}

func (a *app) streamEvents(ctx context.Context, since, until string, f client.Filters, t *template.Template) error {
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	body, err := c.System.Events(ctx, since, until, f)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	for d := json.NewDecoder(body); ; {
		var m events.Message
		if err := d.Decode(&m); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		line := eventText(m)
		if t != nil {
			var b strings.Builder
			if err := t.Execute(&b, newEventRow(m)); err != nil {
				return err
			}
			line = b.String() + "\n"
		}
		if _, err := io.WriteString(a.Out, line); err != nil {
			return err
		}
	}
}

// eventText is an event's line in Docker's form.
func eventText(m events.Message) string {
	const layout = "2006-01-02T15:04:05.000000000Z07:00"
	var b strings.Builder
	if m.TimeNano != 0 {
		b.WriteString(time.Unix(0, m.TimeNano).Format(layout) + " ")
	} else if m.Time != 0 {
		b.WriteString(time.Unix(m.Time, 0).Format(layout) + " ")
	}
	fmt.Fprintf(&b, "%s %s %s", m.Type, m.Action, m.Actor.ID)
	var attrs []string
	for _, k := range sortedKeys(m.Actor.Attributes) {
		attrs = append(attrs, k+"="+m.Actor.Attributes[k])
	}
	if len(attrs) > 0 {
		b.WriteString(" (" + strings.Join(attrs, ", ") + ")")
	}
	b.WriteByte('\n')
	return b.String()
}

func (a *app) system() *cobra.Command {
	dial := a.command("dial-stdio", "Proxy the stdio stream to the daemon connection. Should not be invoked manually.", noArgs, func(ctx context.Context, _ []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		conn, err := c.Dial(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		go func() {
			_, _ = io.Copy(conn, a.In)
			if w, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = w.CloseWrite()
			}
		}()
		_, err = io.Copy(a.Out, conn)
		return err
	})
	dial.Hidden = true
	return a.group("system", "Manage the engine", a.systemDf(), a.systemCheck(), a.events(), a.info(), a.systemPrune(), dial)
}
