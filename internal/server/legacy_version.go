package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
)

// fields are members of a JSON object, nested ones as fields again.
type fields map[string]any

// member is one member of a JSON object.
type member struct {
	name  string
	value json.RawMessage
}

// withFields gives v as a document with the members that it lacks. Their order is
// kept, for people read what inspect prints.
func withFields(v any, extra fields) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil || len(extra) == 0 {
		return b, err
	}
	doc, err := membersOf(b)
	if err != nil {
		return nil, err
	}
	for _, k := range slices.Sorted(maps.Keys(extra)) {
		below, nested := extra[k].(fields)
		at := slices.IndexFunc(doc, func(m member) bool { return m.name == k })
		switch {
		case at >= 0 && nested && string(doc[at].value) != "null":
			doc[at].value, err = withFields(doc[at].value, below)
		case at < 0:
			var value json.RawMessage
			value, err = json.Marshal(extra[k])
			doc = append(doc, member{k, value})
		}
		if err != nil {
			return nil, err
		}
	}
	return objectOf(doc), nil
}

func membersOf(b []byte) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errors.New("translate for an older version: no object"), err)
	}
	var doc []member
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		m := member{name: t.(string)}
		if err := d.Decode(&m.value); err != nil {
			return nil, err
		}
		doc = append(doc, m)
	}
	return doc, nil
}

func objectOf(doc []member) json.RawMessage {
	var b bytes.Buffer
	for i, m := range doc {
		b.WriteByte("{,"[min(i, 1)])
		name, _ := json.Marshal(m.name) // a string always encodes
		b.Write(name)
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// infoOf gives what a version of the API knows of the engine; see the version history
// in moby's docs/api.
func infoOf(info *system.Info, version int) (any, error) {
	i, extra := *info, fields{}
	if version < 25 {
		names := make([]string, 0, len(i.SecurityOptions))
		for _, o := range i.SecurityOptions {
			name, _, _ := strings.Cut(strings.TrimPrefix(o, "name="), ",")
			names = append(names, name)
		}
		i.SecurityOptions = names
		extra["ExecutionDriver"] = "<not supported>"
	}
	if version < 39 {
		if i.KernelVersion == "" {
			i.KernelVersion = "<unknown>"
		}
		if i.OperatingSystem == "" {
			i.OperatingSystem = "<unknown>"
		}
	}
	if version < 44 {
		runtimes := map[string]system.RuntimeWithStatus{}
		for k, r := range i.Runtimes {
			runtimes[k] = system.RuntimeWithStatus{Runtime: r.Runtime}
		}
		i.Runtimes = runtimes
	}
	if version < 46 {
		i.Containerd = nil
	}
	if version < 47 {
		extra["RegistryConfig"] = fields{"AllowNondistributableArtifactsCIDRs": nil, "AllowNondistributableArtifactsHostnames": nil}
	}
	if version < 49 {
		i.FirewallBackend = nil
		extra["ContainerdCommit"] = fields{"Expected": i.ContainerdCommit.ID}
		extra["RuncCommit"] = fields{"Expected": i.RuncCommit.ID}
		extra["InitCommit"] = fields{"Expected": i.InitCommit.ID}
	}
	if version < 50 {
		i.DiscoveredDevices = nil
		extra["BridgeNfIptables"], extra["BridgeNfIp6tables"] = false, false
	}
	if version < 53 {
		i.NRI = nil
	}
	return withFields(i, extra)
}

// summariesOf takes from a list of containers what a version does not know.
func summariesOf(list []container.Summary, version int) []container.Summary {
	if version >= 52 {
		return list
	}
	list = slices.Clone(list)
	for i := range list {
		if version < 46 {
			list[i].HostConfig.Annotations = nil
		}
		if version < 48 {
			list[i].ImageManifestDescriptor = nil
		}
		list[i].Health = nil
	}
	return list
}

// imagesOf gives a list of images as a version knows it.
func imagesOf(list []image.Summary, version int) (any, error) {
	if version >= 51 {
		return list, nil
	}
	list = slices.Clone(list)
	for i := range list {
		m := &list[i]
		if version < 43 && len(m.RepoTags) == 0 && len(m.RepoDigests) == 0 {
			m.RepoTags, m.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
		}
		if version < 48 {
			m.Descriptor = nil
		}
		m.Containers = -1
	}
	if version >= 44 {
		return list, nil
	}
	out := make([]json.RawMessage, len(list))
	for i := range list {
		var err error
		if out[i], err = withFields(list[i], fields{"VirtualSize": list[i].Size}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// imageOf gives an image as a version knows it. The fields of its configuration that
// are now left out when empty were always there before 1.50 and 1.52.
func imageOf(m *image.InspectResponse, version int) (any, error) {
	if version >= 52 {
		return m, nil
	}
	i := *m
	config := fields{"Cmd": nil, "Entrypoint": nil, "Env": nil, "Labels": nil, "OnBuild": nil, "User": "", "Volumes": nil, "WorkingDir": ""}
	if version < 50 {
		for _, k := range []string{"AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty"} {
			config[k] = false
		}
		for _, k := range []string{"Domainname", "Hostname", "Image"} {
			config[k] = ""
		}
	}
	extra := fields{"Parent": "", "Comment": "", "DockerVersion": "", "Author": "", "Config": config}
	if i.GraphDriver == nil {
		extra["GraphDriver"] = fields{"Name": "overlayfs", "Data": nil}
	}
	if version < 44 {
		extra["VirtualSize"] = i.Size
		if i.Created == "" {
			i.Created = "0001-01-01T00:00:00Z"
		}
	}
	if version < 45 {
		extra["Container"], extra["ContainerConfig"] = "", fields{}
	}
	if version < 48 {
		i.Descriptor = nil
	}
	return withFields(i, extra)
}

// containerOf gives a container as a version knows it.
func containerOf(c *container.InspectResponse, version int) (any, error) {
	if version >= 52 {
		return c, nil
	}
	i := *c
	if version < 48 {
		i.ImageManifestDescriptor = nil
	}
	if version < 45 && i.NetworkSettings != nil {
		shown := *i.NetworkSettings
		shown.Networks = map[string]*network.EndpointSettings{}
		for name, e := range i.NetworkSettings.Networks {
			if e != nil && container.NetworkMode(name).IsUserDefined() {
				copied := *e
				copied.Aliases = slices.Clone(e.Aliases)
				for _, a := range []string{i.ID[:min(12, len(i.ID))], hostnameOf(&i)} {
					if a != "" && !slices.Contains(copied.Aliases, a) {
						copied.Aliases = append(copied.Aliases, a)
					}
				}
				e = &copied
			}
			shown.Networks[name] = e
		}
		i.NetworkSettings = &shown
	}
	extra := fields{}
	if i.GraphDriver == nil {
		extra["GraphDriver"] = fields{"Name": "overlayfs", "Data": nil}
		i.Storage = nil
	}
	return withFields(legacyInspectOf(&i), extra)
}

func hostnameOf(c *container.InspectResponse) string {
	if c.Config == nil {
		return ""
	}
	return c.Config.Hostname
}

// adaptCreate makes of a request what its version meant: what the version did not
// know is taken out, refused where that would change what runs, and what it left to
// the daemon gets the default of its day.
func adaptCreate(req *container.CreateRequest, version int) error {
	if req.HostConfig == nil {
		req.HostConfig = &container.HostConfig{}
	}
	h := req.HostConfig
	if version < 25 {
		h.AutoRemove = false // the client removes the container itself
	}
	if version < 40 && h.IpcMode.IsEmpty() {
		h.IpcMode = container.IPCModeShareable
	}
	if version < 43 {
		h.Annotations = nil
	}
	if version < 44 && req.Config.Healthcheck != nil {
		req.Config.Healthcheck.StartInterval = 0
	}
	if version < 56 {
		h.Umask = nil
	}
	for i := range h.Mounts {
		if err := adaptMount(&h.Mounts[i], version); err != nil {
			return err
		}
	}
	if req.NetworkingConfig == nil {
		return nil
	}
	for _, e := range req.NetworkingConfig.EndpointsConfig {
		if e != nil && version < 48 {
			e.GwPriority = 0
		}
	}
	return nil
}

func adaptMount(m *mount.Mount, version int) error {
	if o := m.BindOptions; o != nil {
		if version < 40 {
			o.NonRecursive = false
		}
		if version < 42 {
			o.CreateMountpoint = false
		}
		if version < 44 && o.ReadOnlyForceRecursive {
			return badRequest("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
		}
	}
	switch {
	case version < 45 && m.VolumeOptions != nil && m.VolumeOptions.Subpath != "":
		return badRequest("VolumeOptions.Subpath needs API v1.45 or newer")
	case version < 48 && m.Type == mount.TypeImage:
		return badRequest(`Mount type "Image" needs API v1.48 or newer`)
	case version < 44 && m.Type == mount.TypeBind && m.ReadOnly:
		// Before 1.44 a read-only bind left what is mounted below it writable.
		if m.BindOptions == nil {
			m.BindOptions = &mount.BindOptions{}
		}
		m.BindOptions.ReadOnlyNonRecursive = true
	}
	return nil
}
