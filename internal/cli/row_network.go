package cli

import (
	"strconv"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/volume"

	"muelle/internal/console"
)

const (
	networksFormat = `table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}`
	volumesFormat  = `table {{.Driver}}\t{{.Name}}`
)

func networkFormat(source string, quiet bool) string {
	switch {
	case source == "table" && quiet:
		return "{{.ID}}"
	case source == "table":
		return networksFormat
	case source == "raw" && quiet:
		return "network_id: {{.ID}}"
	case source == "raw":
		return `network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n`
	}
	return source
}

func networkHeaders() map[string]string {
	return map[string]string{"ID": "NETWORK ID", "Name": titleName, "Driver": titleDriver, "Scope": titleScope, "IPv4": "IPV4", "IPv6": "IPV6",
		"Internal": "INTERNAL", "Labels": titleLabels, "CreatedAt": "CREATED AT"}
}

type networkRow struct {
	trunc bool
	n     network.Summary
}

func (r *networkRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// ID is the network's id.
func (r *networkRow) ID() string { return shorten(r.n.ID, r.trunc) }

// Name is its name.
func (r *networkRow) Name() string { return r.n.Name }

// Driver is bridge, host, null …
func (r *networkRow) Driver() string { return r.n.Driver }

// Scope is local.
func (r *networkRow) Scope() string { return r.n.Scope }

// IPv4 says whether there is any.
func (r *networkRow) IPv4() string { return strconv.FormatBool(r.n.EnableIPv4) }

// IPv6 says whether there is any.
func (r *networkRow) IPv6() string { return strconv.FormatBool(r.n.EnableIPv6) }

// Internal says whether it has no way out.
func (r *networkRow) Internal() string { return strconv.FormatBool(r.n.Internal) }

// Labels are all labels.
func (r *networkRow) Labels() string { return console.LabelText(r.n.Labels) }

// Label is one label.
func (r *networkRow) Label(name string) string { return r.n.Labels[name] }

// CreatedAt is the time of creation.
func (r *networkRow) CreatedAt() string { return r.n.Created.String() }

func volumeFormat(source string, quiet bool) string {
	switch {
	case source == "table" && quiet:
		return "{{.Name}}"
	case source == "table":
		return volumesFormat
	case source == "raw" && quiet:
		return "name: {{.Name}}"
	case source == "raw":
		return `name: {{.Name}}\ndriver: {{.Driver}}\n`
	}
	return source
}

func volumeHeaders() map[string]string {
	return map[string]string{"ID": "ID", "Name": "VOLUME NAME", "Group": "GROUP", "Driver": titleDriver, "Scope": titleScope, "Availability": "AVAILABILITY",
		"Mountpoint": "MOUNTPOINT", "Labels": titleLabels, "Links": "LINKS", "Size": titleSize, "Status": "STATUS"}
}

type volumeRow struct{ v volume.Volume }

func (r *volumeRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// Name is the volume's name.
func (r *volumeRow) Name() string { return r.v.Name }

// Driver is local.
func (r *volumeRow) Driver() string { return r.v.Driver }

// Scope is local.
func (r *volumeRow) Scope() string { return r.v.Scope }

// Mountpoint is its folder on the host.
func (r *volumeRow) Mountpoint() string { return r.v.Mountpoint }

// Labels are all labels.
func (r *volumeRow) Labels() string { return console.LabelText(r.v.Labels) }

// Label is one label.
func (r *volumeRow) Label(name string) string { return r.v.Labels[name] }

// Links counts the containers that use it.
func (r *volumeRow) Links() string {
	if r.v.UsageData == nil {
		return "N/A"
	}
	return strconv.FormatInt(r.v.UsageData.RefCount, 10)
}

// Size is what it holds.
func (r *volumeRow) Size() string {
	if r.v.UsageData == nil || r.v.UsageData.Size < 0 {
		return "N/A"
	}
	return size4(r.v.UsageData.Size)
}

// Group and the next two are of cluster volumes, which there are none of.
func (r *volumeRow) Group() string { return "N/A" }

// Availability is of cluster volumes.
func (r *volumeRow) Availability() string { return "N/A" }

// Status is of cluster volumes.
func (r *volumeRow) Status() string { return "N/A" }
