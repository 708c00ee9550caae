package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"muelle/api"
	"muelle/client"
	"muelle/internal/console"
)

func (a *app) dns() *cobra.Command {
	return a.group("dns", "See what containers look up", a.dnsLog())
}

func (a *app) dnsLog() *cobra.Command {
	var follow, asJSON, failed bool
	c := a.command("log [OPTIONS] CONTAINER", "Show the last lookups of a container, and why they failed", exactArgs(1), func(ctx context.Context, args []string) error {
		c, err := a.api(ctx)
		if err != nil {
			return err
		}
		found, err := containersOf(ctx, c, args[0])
		if err != nil {
			return err
		}
		out := &lookupWriter{out: a.Out, asJSON: asJSON, failed: failed, named: len(found) > 1}
		var wg sync.WaitGroup
		errs := make([]error, len(found))
		for i, f := range found {
			read := func() { errs[i] = out.copy(ctx, c, f, follow) }
			if follow {
				wg.Go(read)
			} else {
				read()
			}
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	c.Long = `Show the last 256 lookups that a container made: what it asked 127.0.0.11, what it was
answered, who knew, and, where it got no address, why. Of a container that has ended, the
last lookups of its last run are shown. CONTAINER may also be PROJECT/SERVICE, or, in a
project's folder, a service.`
	f := c.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "Go on with the lookups that come")
	f.BoolVar(&failed, "failed", false, "Only those that failed")
	f.BoolVar(&asJSON, "json", false, "Print one JSON object a line")
	return c
}

// named is a container's id and name.
type namedContainer struct{ id, name string }

// containersOf finds a container by name or id, else the containers of a service:
// PROJECT/SERVICE, or a service of the project that was brought up from this folder.
func containersOf(ctx context.Context, c *client.Client, ref string) ([]namedContainer, error) {
	project, service, qualified := strings.Cut(ref, "/")
	if !qualified {
		found, err := c.Containers.Inspect(ctx, ref)
		if err == nil {
			return []namedContainer{{found.ID, strings.TrimPrefix(found.Name, "/")}}, nil
		}
		if !errdefs.IsNotFound(err) {
			return nil, err
		}
		if project, service = projectHere(ctx, c), ref; project == "" {
			return nil, err
		}
	}
	filters := client.Filters{}.Add("label", api.LabelProject+"="+project, api.LabelService+"="+service)
	list, err := c.Containers.List(ctx, client.ListOptions{All: true, Filters: filters})
	if err != nil {
		return nil, err
	}
	var found []namedContainer
	for _, s := range list {
		name := s.ID[:12]
		if len(s.Names) > 0 {
			name = strings.TrimPrefix(s.Names[0], "/")
		}
		found = append(found, namedContainer{s.ID, name})
	}
	if len(found) == 0 {
		return nil, errdefs.ErrNotFound.WithMessage("No such container: " + ref)
	}
	return found, nil
}

// projectHere is the project that was brought up from this folder, or, if there is but
// one, from a folder below it or above it; else empty.
func projectHere(ctx context.Context, c *client.Client) string {
	here, err := os.Getwd()
	var projects []api.ProjectSummary
	if err != nil || c.Projects.List(ctx, &projects) != nil {
		return ""
	}
	var near []string
	for _, p := range projects {
		switch {
		case p.WorkingDir == here:
			return p.Name
		case strings.HasPrefix(p.WorkingDir, here+"/"), p.WorkingDir != "" && strings.HasPrefix(here, p.WorkingDir+"/"):
			near = append(near, p.Name)
		}
	}
	if len(near) == 1 {
		return near[0]
	}
	return ""
}

// lookupWriter prints the lookups of one container or several.
type lookupWriter struct {
	mu                    sync.Mutex
	out                   io.Writer
	asJSON, failed, named bool
}

func (l *lookupWriter) copy(ctx context.Context, c *client.Client, from namedContainer, follow bool) error {
	body, err := c.Containers.Lookups(ctx, from.id, follow)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	for d := json.NewDecoder(body); ; {
		var q api.DNSQuery
		if err := d.Decode(&q); err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return err
		}
		if l.failed && !q.Failed() {
			continue
		}
		if err := l.write(from.name, &q); err != nil {
			return err
		}
	}
}

func (l *lookupWriter) write(name string, q *api.DNSQuery) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asJSON {
		e := json.NewEncoder(l.out)
		e.SetEscapeHTML(false)
		return e.Encode(q)
	}
	var b strings.Builder
	if l.named {
		fmt.Fprintf(&b, "%s  ", console.OneLine(name))
	}
	answer := q.Code
	switch {
	case len(q.Answer) > 0:
		answer = strings.Join(q.Answer, " ")
	case q.Code == "NOERROR":
		answer = "no record of this type"
	case q.Code == "":
		answer = "no answer"
	}
	fmt.Fprintf(&b, "%s  %-5s %s  %s", q.At.Local().Format("15:04:05.000"), console.OneLine(q.Type), console.OneLine(q.Name), console.OneLine(answer))
	if q.From != "" {
		fmt.Fprintf(&b, "  (%s, %s)", console.OneLine(q.From), q.Took.Round(10*time.Microsecond))
	} else {
		fmt.Fprintf(&b, "  (%s)", q.Took.Round(10*time.Microsecond))
	}
	if q.Reason != "" && (q.Failed() || len(q.Answer) == 0) {
		fmt.Fprintf(&b, "\n              %s", console.OneLine(q.Reason))
	}
	b.WriteByte('\n')
	_, err := io.WriteString(l.out, b.String())
	return err
}
