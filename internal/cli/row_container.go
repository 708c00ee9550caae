package cli

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"

	"muelle/internal/console"
)

const (
	psFormat    = `table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}`
	psRawFormat = `container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{- pad .State 1 0}}
status: {{- pad .Status 1 0}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
`
)

func containerFormat(source string, quiet, size bool) string {
	var f string
	switch {
	case source == "raw" && quiet:
		return "container_id: {{.ID}}"
	case quiet:
		return "{{.ID}}"
	case source == "raw":
		if f = psRawFormat; size {
			f += `size: {{.Size}}\n`
		}
	case source == "table":
		if f = psFormat; size {
			f += `\t{{.Size}}`
		}
	default:
		f = source
	}
	return f
}

func containerHeaders() map[string]string {
	return map[string]string{
		"ID": titleID, "Names": "NAMES", "Image": "IMAGE", "Command": "COMMAND", "CreatedAt": "CREATED AT",
		"RunningFor": titleCreated, "Ports": "PORTS", "State": "STATE", "Status": "STATUS", "Size": titleSize,
		"Labels": titleLabels, "Mounts": "MOUNTS", "LocalVolumes": "LOCAL VOLUMES", "Networks": "NETWORKS", "Platform": "PLATFORM", "Exposure": "EXPOSURE",
	}
}

type containerRow struct {
	console.Container
	// sizeShown notes that a template asked for the size.
	sizeShown bool
}

func (r *containerRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// Names are the container's names; the aliases of old links are left out.
func (r *containerRow) Names() string {
	names := make([]string, len(r.Of.Names))
	for i, n := range r.Of.Names {
		names[i] = strings.TrimPrefix(n, "/")
	}
	if r.Trunc {
		if i := slices.IndexFunc(names, func(n string) bool { return !strings.Contains(n, "/") }); i >= 0 {
			return names[i]
		}
	}
	return strings.Join(names, ",")
}

// Image is the image's name without a digest.
func (r *containerRow) Image() string {
	if r.Of.Image == "" {
		return "<no image>"
	}
	if !r.Trunc {
		return r.Of.Image
	}
	if short := console.ShortID(r.Of.ImageID); short == console.ShortID(r.Of.Image) {
		return short
	}
	if ref, err := console.ParseRef(r.Of.Image); err == nil {
		ref.Digest = ""
		return ref.FamiliarString()
	}
	return r.Of.Image
}

// Platform is the image's platform.
func (r *containerRow) Platform() *platformText {
	d := r.Of.ImageManifestDescriptor
	if d == nil || d.Platform == nil {
		return nil
	}
	return &platformText{d.Platform.OS, d.Platform.Architecture, d.Platform.Variant}
}

type platformText struct {
	OS, Architecture string
	Variant          string `json:",omitempty"`
}

// String is os/arch[/variant].
func (p *platformText) String() string {
	if p == nil {
		return "<nil>"
	}
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Ports are the published and exposed ports.
func (r *containerRow) Ports() string { return portText(r.Of.Ports) }

// Size is the writable layer's.
func (r *containerRow) Size() string {
	r.sizeShown = true
	s := size3(r.Of.SizeRw)
	if r.Of.SizeRootFs > 0 {
		s += " (virtual " + size3(r.Of.SizeRootFs) + ")"
	}
	return s
}

// LocalVolumes counts them.
func (r *containerRow) LocalVolumes() string {
	n := 0
	for _, m := range r.Of.Mounts {
		if m.Driver == "local" {
			n++
		}
	}
	return strconv.Itoa(n)
}

// portText groups consecutive ports: "0.0.0.0:80-81->80-81/tcp".
func portText(ports []container.PortSummary) string {
	type group struct{ first, last uint16 }
	groups := map[string]*group{}
	var keys, out, mapped []string
	ports = slices.Clone(ports)
	slices.SortFunc(ports, comparePorts)
	for _, p := range ports {
		key := p.Type
		if p.IP.IsValid() {
			if p.PublicPort != p.PrivatePort {
				host := net.JoinHostPort(p.IP.String(), strconv.Itoa(int(p.PublicPort)))
				mapped = append(mapped, fmt.Sprintf("%s->%d/%s", host, p.PrivatePort, p.Type))
				continue
			}
			key = p.IP.String() + "/" + p.Type
		}
		g := groups[key]
		switch {
		case g == nil:
			groups[key] = &group{p.PrivatePort, p.PrivatePort}
			keys = append(keys, key)
		case p.PrivatePort == g.last+1:
			g.last = p.PrivatePort
		default:
			out = append(out, portGroup(key, g.first, g.last))
			groups[key] = &group{p.PrivatePort, p.PrivatePort}
		}
	}
	for _, k := range keys {
		out = append(out, portGroup(k, groups[k].first, groups[k].last))
	}
	return strings.Join(append(out, mapped...), ", ")
}

func portGroup(key string, first, last uint16) string {
	ip, proto, ok := strings.Cut(key, "/")
	if !ok {
		ip, proto = "", key
	}
	s := strconv.Itoa(int(first))
	if first != last {
		s += "-" + strconv.Itoa(int(last))
	}
	if ip != "" {
		s = net.JoinHostPort(ip, s) + "->" + s
	}
	return s + "/" + proto
}

func comparePorts(a, b container.PortSummary) int {
	ip := func(p container.PortSummary) string {
		if p.IP.IsValid() {
			return p.IP.String()
		}
		return ""
	}
	if c := int(a.PrivatePort) - int(b.PrivatePort); c != 0 {
		return c
	}
	if c := strings.Compare(ip(a), ip(b)); c != 0 {
		return c
	}
	if c := int(a.PublicPort) - int(b.PublicPort); c != 0 {
		return c
	}
	return strings.Compare(a.Type, b.Type)
}
