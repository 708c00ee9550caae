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

// psRow is a container for ps and its templates.
type psRow struct {
	trunc bool
	c     container.Summary
}

// publisher is a published port as Docker Compose's JSON has it.
type publisher struct {
	URL           string
	TargetPort    uint16
	PublishedPort uint16
	Protocol      string
}

// MarshalJSON writes Docker Compose's fields.
func (r *psRow) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]any{
		"ID": r.ID(), "Name": r.Name(), "Names": r.Names(), "Image": r.Image(), "Command": r.Command(),
		"Project": r.Project(), "Service": r.Service(), "CreatedAt": r.CreatedAt(), "RunningFor": r.RunningFor(),
		"State": r.State(), "Status": r.Status(), "Health": r.Health(), "ExitCode": r.ExitCode(), "Publishers": r.Publishers(),
		"Ports": r.Ports(), "Labels": r.Labels(), "Networks": r.Networks(), "Mounts": r.Mounts(), "LocalVolumes": r.LocalVolumes(), "Size": r.Size(),
	})
}

// ID is the container's id.
func (r *psRow) ID() string {
	if r.trunc {
		return console.ShortID(r.c.ID)
	}
	return r.c.ID
}

// Name is the container's name.
func (r *psRow) Name() string { return containerName(r.c) }

// Names is the same.
func (r *psRow) Names() string { return containerName(r.c) }

// Image is what the container was created from.
func (r *psRow) Image() string { return r.c.Image }

// Command is quoted, and cut at twenty characters.
func (r *psRow) Command() string {
	c := r.c.Command
	if r.trunc {
		c = console.Ellipsis(c, 20)
	}
	return strconv.Quote(c)
}

// Project is the project's name.
func (r *psRow) Project() string { return r.c.Labels[api.LabelProject] }

// Service is the service's name.
func (r *psRow) Service() string { return r.c.Labels[api.LabelService] }

// CreatedAt is a time.
func (r *psRow) CreatedAt() string { return time.Unix(r.c.Created, 0).String() }

// RunningFor is the container's age.
func (r *psRow) RunningFor() string { return console.HumanAge(time.Unix(r.c.Created, 0)) }

// State is a word.
func (r *psRow) State() string { return string(r.c.State) }

// Status is a sentence.
func (r *psRow) Status() string { return r.c.Status }

// Health is the health check's state, or empty.
func (r *psRow) Health() string {
	if r.c.Health == nil || r.c.Health.Status == container.NoHealthcheck {
		return ""
	}
	return string(r.c.Health.Status)
}

// ExitCode is read from the status: the list has no field for it.
func (r *psRow) ExitCode() int {
	_, rest, ok := strings.Cut(r.c.Status, "(")
	code, _, closed := strings.Cut(rest, ")")
	n, err := strconv.Atoi(code)
	if !ok || !closed || err != nil || !isStopped(r.c) {
		return 0
	}
	return n
}

// Publishers are the ports, one by one.
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

// Ports is the ports in one line.
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

// Labels are key=value, sorted.
func (r *psRow) Labels() string {
	var out []string
	for k, v := range r.c.Labels {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// Label is one label's value.
func (r *psRow) Label(name string) string { return r.c.Labels[name] }

// Networks are their names.
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

// Mounts are volumes' names and hosts' paths.
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

// LocalVolumes counts the volumes.
func (r *psRow) LocalVolumes() string {
	n := 0
	for _, m := range r.c.Mounts {
		if m.Type == "volume" {
			n++
		}
	}
	return strconv.Itoa(n)
}

// Size of the writable layer.
func (r *psRow) Size() string { return console.HumanSize(r.c.SizeRw) }
