package compose

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/console"
)

type psRow struct {
	trunc bool
	c     container.Summary
}

type publisher struct {
	URL           string
	TargetPort    uint16
	PublishedPort uint16
	Protocol      string
}

func (r *psRow) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"ID": r.ID(), "Name": r.Name(), "Names": r.Names(), "Image": r.Image(), "Command": r.Command(),
		"Project": r.Project(), "Service": r.Service(), "CreatedAt": r.CreatedAt(), "RunningFor": r.RunningFor(),
		"State": r.State(), "Status": r.Status(), "Health": r.Health(), "ExitCode": r.ExitCode(), "Publishers": r.Publishers(),
		"Ports": r.Ports(), "Labels": r.Labels(), "Networks": r.Networks(), "Mounts": r.Mounts(), "LocalVolumes": r.LocalVolumes(), "Size": r.Size(),
	})
}

func (r *psRow) ID() string {
	if r.trunc {
		return console.ShortID(r.c.ID)
	}
	return r.c.ID
}

func (r *psRow) Name() string { return containerName(r.c) }

func (r *psRow) Names() string { return containerName(r.c) }

func (r *psRow) Image() string { return r.c.Image }

func (r *psRow) Command() string {
	c := r.c.Command
	if r.trunc {
		c = console.Ellipsis(c, 20)
	}
	return strconv.Quote(c)
}

func (r *psRow) Project() string { return r.c.Labels[api.LabelProject] }

func (r *psRow) Service() string { return r.c.Labels[api.LabelService] }

func (r *psRow) CreatedAt() string { return time.Unix(r.c.Created, 0).String() }

func (r *psRow) RunningFor() string { return console.HumanAge(time.Unix(r.c.Created, 0)) }

func (r *psRow) State() string { return string(r.c.State) }

func (r *psRow) Status() string { return r.c.Status }

func (r *psRow) Health() string {
	if r.c.Health == nil || r.c.Health.Status == container.NoHealthcheck {
		return ""
	}
	return string(r.c.Health.Status)
}

func (r *psRow) ExitCode() int {
	_, rest, ok := strings.Cut(r.c.Status, "(")
	code, _, closed := strings.Cut(rest, ")")
	n, err := strconv.Atoi(code)
	if !ok || !closed || err != nil || !isStopped(r.c) {
		return 0
	}
	return n
}

func (r *psRow) Publishers() []publisher {
	out := []publisher{}
	for _, p := range r.c.Ports {
		url := ""
		if p.IP.IsValid() {
			url = p.IP.String()
		}
		out = append(out, publisher{url, p.PrivatePort, p.PublicPort, p.Type})
	}
	slices.SortFunc(out, func(a, b publisher) int {
		return cmp.Or(cmp.Compare(a.TargetPort, b.TargetPort), cmp.Compare(a.URL, b.URL), cmp.Compare(a.PublishedPort, b.PublishedPort))
	})
	return out
}

func (r *psRow) Ports() string {
	var parts []string
	for _, p := range r.Publishers() {
		s := fmt.Sprintf("%d/%s", p.TargetPort, p.Protocol)
		if p.PublishedPort > 0 {
			s = net.JoinHostPort(p.URL, strconv.Itoa(int(p.PublishedPort))) + "->" + s
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, ", ")
}

func (r *psRow) Labels() string {
	var out []string
	for k, v := range r.c.Labels {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func (r *psRow) Label(name string) string { return r.c.Labels[name] }

func (r *psRow) Networks() string {
	var out []string
	if r.c.NetworkSettings != nil {
		for name := range r.c.NetworkSettings.Networks {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func (r *psRow) Mounts() string {
	var out []string
	for _, m := range r.c.Mounts {
		name := cmp.Or(m.Name, m.Source)
		if r.trunc {
			name = console.Ellipsis(name, 15)
		}
		out = append(out, name)
	}
	return strings.Join(out, ",")
}

func (r *psRow) LocalVolumes() string {
	n := 0
	for _, m := range r.c.Mounts {
		if m.Type == "volume" {
			n++
		}
	}
	return strconv.Itoa(n)
}

func (r *psRow) Size() string { return console.HumanSize(r.c.SizeRw) }
