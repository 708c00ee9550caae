package compose

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"muelle/api"
	"muelle/internal/console"
)

// psRow is a container for ps and its templates.
type psRow struct{ console.Container }

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

// Name is the container's name.
func (r *psRow) Name() string { return containerName(r.Of) }

// Names is the same.
func (r *psRow) Names() string { return containerName(r.Of) }

// Image is what the container was created from.
func (r *psRow) Image() string { return r.Of.Image }

// Project is the project's name.
func (r *psRow) Project() string { return r.Of.Labels[api.LabelProject] }

// Service is the service's name.
func (r *psRow) Service() string { return r.Of.Labels[api.LabelService] }

// Health is the health check's state, or empty.
func (r *psRow) Health() string {
	if r.Of.Health == nil || r.Of.Health.Status == container.NoHealthcheck {
		return ""
	}
	return string(r.Of.Health.Status)
}

// ExitCode is read from the status: the list has no field for it.
func (r *psRow) ExitCode() int {
	_, rest, ok := strings.Cut(r.Of.Status, "(")
	code, _, closed := strings.Cut(rest, ")")
	n, err := strconv.Atoi(code)
	if !ok || !closed || err != nil || !isStopped(r.Of) {
		return 0
	}
	return n
}

// Publishers are the ports, one by one.
func (r *psRow) Publishers() []publisher {
	out := []publisher{}
	for _, p := range r.Of.Ports {
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

// LocalVolumes counts the volumes.
func (r *psRow) LocalVolumes() string {
	n := 0
	for _, m := range r.Of.Mounts {
		if m.Type == "volume" {
			n++
		}
	}
	return strconv.Itoa(n)
}

// Size of the writable layer.
func (r *psRow) Size() string { return console.HumanSize(r.Of.SizeRw) }
