package project

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"golang.org/x/sync/errgroup"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/image"
	"muelle/internal/step"
)

const (
	servicePrefix   = "service:"
	containerPrefix = "container:"
)

// references are the services whose containers a service's configuration names.
func references(svc *api.ProjectService) []string {
	var out []string
	for _, mode := range []string{string(svc.HostConfig.NetworkMode), string(svc.HostConfig.IpcMode), string(svc.HostConfig.PidMode)} {
		if name, ok := strings.CutPrefix(mode, servicePrefix); ok {
			out = append(out, name)
		}
	}
	for _, from := range svc.HostConfig.VolumesFrom {
		if !strings.HasPrefix(from, containerPrefix) {
			name, _, _ := strings.Cut(from, ":")
			out = append(out, name)
		}
	}
	return out
}

// containerName is the name of a service's container of that number.
func (u *up) containerName(svc *api.ProjectService, number int) string {
	if svc.ContainerName != "" {
		return svc.ContainerName
	}
	return u.spec.Name + "-" + svc.Name + "-" + strconv.Itoa(number)
}

// reconcileService makes a service's containers as many and as configured as the
// document says.
func (u *up) reconcileService(ctx context.Context, name string) error {
	svc := u.services[name]
	u.mu.Lock()
	existing := slices.Clone(u.have[name])
	u.mu.Unlock()
	var img *image.Image
	if svc.Scale > 0 {
		var err error
		if img, err = u.images.Get(ctx, svc.Config.Image); err != nil {
			return err
		}
	}
	p := u.plan(svc, existing, img)
	if len(p.recreate) > 0 {
		u.mu.Lock()
		u.recreated[name] = true
		u.mu.Unlock()
		if err := u.stopDependents(ctx, name); err != nil {
			return err
		}
	}
	for _, m := range p.keep {
		if m.running() {
			u.report.done(m.id(), "Running")
		}
	}
	made := make([]member, len(p.recreate)+p.create)
	eg, ctx := errgroup.WithContext(ctx)
	for _, m := range p.remove {
		eg.Go(func() error { return u.stopAndRemove(ctx, m, u.o.Timeout, false, u.report) })
	}
	for i, m := range p.recreate {
		eg.Go(func() (err error) {
			made[i], err = u.recreate(ctx, svc, m, img)
			return err
		})
	}
	for i := range p.create {
		eg.Go(func() (err error) {
			made[len(p.recreate)+i], err = u.create(ctx, svc, p.next+i)
			return err
		})
	}
	err := eg.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.have[name] = p.keep
	for _, m := range made {
		if m.ID != "" {
			u.have[name] = append(u.have[name], m)
		}
	}
	return err
}

// plan is what to do with one service's containers.
type plan struct {
	keep, recreate, remove []member
	create, next           int
}

func (u *up) plan(svc *api.ProjectService, existing []member, img *image.Image) plan {
	stale := map[string]bool{}
	for _, m := range existing {
		stale[m.ID] = u.gone[m.ID] || svc.Scale > 0 && u.mustRecreate(svc, m, img)
	}
	// What is up to date and has a low number survives a scale-down.
	slices.SortStableFunc(existing, func(a, b member) int {
		if stale[a.ID] != stale[b.ID] {
			if stale[a.ID] {
				return 1
			}
			return -1
		}
		return a.number - b.number
	})
	p := plan{next: 1}
	for i, m := range existing {
		p.next = max(p.next, m.number+1)
		switch {
		case i >= svc.Scale && u.gone[m.ID]:
		case i >= svc.Scale:
			p.remove = append(p.remove, m)
		case stale[m.ID]:
			p.recreate = append(p.recreate, m)
		default:
			p.keep = append(p.keep, m)
		}
	}
	p.create = max(0, svc.Scale-len(existing))
	return p
}

func (u *up) mustRecreate(svc *api.ProjectService, m member, img *image.Image) bool {
	named := selected(u.o.Services, svc.Name)
	switch {
	case u.o.NoRecreate:
		return false
	case u.o.ForceRecreate && named, u.o.RecreateDeps && !named, u.o.RenewAnonVolumes && named:
		return true
	case m.Labels[api.LabelConfigHash] != u.hash(svc), m.Labels[api.LabelImage] != contentDigest(img):
		return true
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, ref := range references(svc) {
		if u.recreated[ref] {
			return true
		}
	}
	return u.networksDiffer(svc, m) || u.volumesDiffer(svc, m)
}

func (u *up) networksDiffer(svc *api.ProjectService, m member) bool {
	if m.NetworkSettings == nil {
		return false
	}
	for key := range svc.Endpoints {
		ep := m.NetworkSettings.Networks[u.network[key]]
		if ep == nil || ep.NetworkID != "" && ep.NetworkID != u.networkID[key] {
			return true
		}
	}
	return false
}

func (u *up) volumesDiffer(svc *api.ProjectService, m member) bool {
	for _, name := range u.volumesOf(svc) {
		if !slices.ContainsFunc(m.Mounts, func(p ctypes.MountPoint) bool { return p.Type == mount.TypeVolume && p.Name == name }) {
			return true
		}
	}
	return false
}

// contentDigest identifies an image's runnable content as Docker Compose does: the
// manifest for this platform, which attestations beside it do not change.
func contentDigest(img *image.Image) string {
	if img == nil {
		return ""
	}
	if img.Manifest.Digest != "" {
		return img.Manifest.Digest.String()
	}
	return img.ID.String()
}

// hash is the service's configuration hash, with the ids of the containers it
// refers to filled in.
func (u *up) hash(svc *api.ProjectService) string {
	if svc.HashTemplate == "" {
		return svc.ConfigHash
	}
	doc := svc.HashTemplate
	for _, ref := range references(svc) {
		doc = strings.ReplaceAll(doc, api.ServiceRef(ref), u.firstID(ref))
	}
	sum := sha256.Sum256([]byte(doc))
	return hex.EncodeToString(sum[:])
}

// firstID is the id of a service's first container by name.
func (u *up) firstID(service string) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	first := member{}
	for _, m := range u.have[service] {
		if first.ID == "" || m.name < first.name {
			first = m
		}
	}
	return first.ID
}

// stopDependents stops the services that want to be restarted with this one; they
// start again in the start phase.
func (u *up) stopDependents(ctx context.Context, name string) error {
	for _, dependent := range u.graph.dependents(name) {
		if !u.graph.deps[dependent][name].Restart {
			continue
		}
		u.mu.Lock()
		ms := slices.Clone(u.have[dependent])
		for i := range u.have[dependent] {
			u.have[dependent][i].State = ctypes.StateExited
		}
		u.mu.Unlock()
		if err := u.stopAll(ctx, ms, u.o.Timeout, u.report); err != nil {
			return err
		}
	}
	return nil
}

// create makes a container of a service.
func (u *up) create(ctx context.Context, svc *api.ProjectService, number int) (member, error) {
	name := u.containerName(svc, number)
	var made member
	err := u.report.around(containerID(name), "Creating", "Created", func() (err error) {
		made, err = u.createAs(ctx, svc, name, name, number, nil, nil)
		return err
	})
	return made, err
}

// recreate replaces a container: the new one is made beside it under another name
// first, so that a configuration the engine refuses costs nothing.
func (u *up) recreate(ctx context.Context, svc *api.ProjectService, old member, img *image.Image) (made member, err error) {
	name := u.containerName(svc, old.number)
	if u.gone[old.ID] {
		err = u.report.around(containerID(name), "Creating", "Created", func() (err error) {
			made, err = u.createAs(ctx, svc, name, name, old.number, &old, img)
			return err
		})
		return made, err
	}
	temporary := old.ID[:min(12, len(old.ID))] + "_" + name
	err = u.report.around(containerID(name), "Recreate", "Recreated", func() error {
		return step.Run(ctx, step.Step{
			Name: "create",
			Do: func(ctx context.Context) (err error) {
				made, err = u.createAs(ctx, svc, name, temporary, old.number, &old, img)
				return err
			},
			Undo: func(ctx context.Context) error {
				return u.containers.Remove(ctx, made.ID, container.RemoveOptions{Force: true, Volumes: false})
			},
		}, step.Step{
			Name: "stop old",
			Do:   func(ctx context.Context) error { return u.stopQuietly(ctx, old, u.o.Timeout) },
			Undo: func(ctx context.Context) error {
				if !old.running() {
					return nil
				}
				return u.containers.Start(ctx, old.ID)
			},
		}, step.Step{
			Name: "replace old",
			Do: func(ctx context.Context) error {
				// From here on a cancelled client must not leave two of them.
				ctx = context.WithoutCancel(ctx)
				if err := u.containers.Remove(ctx, old.ID, container.RemoveOptions{Force: true}); err != nil {
					return err
				}
				return u.containers.Rename(ctx, made.ID, name)
			},
		})
	})
	if err != nil {
		// The old one may be there still; the caller looks no further after an error.
		return member{}, err
	}
	made.name = name
	return made, nil
}

// createAs creates the container that will be called name, under the name as.
func (u *up) createAs(ctx context.Context, svc *api.ProjectService, name, as string, number int, old *member, img *image.Image) (member, error) {
	if img == nil {
		var err error
		if img, err = u.images.Get(ctx, svc.Config.Image); err != nil {
			return member{}, err
		}
	}
	config, host := *svc.Config, *svc.HostConfig
	config.Labels = u.labels(svc, number, img, old != nil)
	if err := u.resolveReferences(&host); err != nil {
		return member{}, err
	}
	if old != nil && !u.o.RenewAnonVolumes {
		host.Mounts = inherit(svc, old, img)
	}
	endpoints := map[string]*network.EndpointSettings{}
	for key, ep := range svc.Endpoints {
		e := &network.EndpointSettings{}
		if ep != nil {
			*e = *ep
		}
		e.Aliases = append([]string{name}, e.Aliases...)
		endpoints[u.network[key]] = e
	}
	if n, ok := u.network[string(host.NetworkMode)]; ok && len(endpoints) > 0 {
		host.NetworkMode = ctypes.NetworkMode(n)
	}
	res, err := u.containers.Create(ctx, container.CreateOptions{
		Name: as, Platform: svc.Platform, Config: &config, HostConfig: &host,
		Networking: &network.NetworkingConfig{EndpointsConfig: endpoints},
	})
	if err != nil {
		return member{}, err
	}
	for _, w := range res.Warnings {
		u.report.warn(svc.Name + ": " + w)
	}
	return newMember(ctypes.Summary{ID: res.ID, Names: []string{"/" + as}, Labels: config.Labels, State: ctypes.StateCreated}), nil
}

// labels are the user's and Docker Compose's.
func (u *up) labels(svc *api.ProjectService, number int, img *image.Image, replaces bool) map[string]string {
	l := maps.Clone(svc.Config.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l[api.LabelProject] = u.spec.Name
	l[api.LabelService] = svc.Name
	l[api.LabelComposeVersion] = api.ComposeVersion
	l[api.LabelWorkingDir] = u.spec.WorkingDir
	l[api.LabelConfigFiles] = strings.Join(u.spec.ConfigFiles, ",")
	l[api.LabelOneOff] = "False"
	l[api.LabelConfigHash] = u.hash(svc)
	l[api.LabelContainerNumber] = strconv.Itoa(number)
	l[api.LabelDependsOn] = formatDependsOn(svc.DependsOn)
	l[api.LabelImage] = contentDigest(img)
	if len(u.spec.EnvFiles) > 0 {
		l[api.LabelEnvFile] = strings.Join(u.spec.EnvFiles, ",")
	}
	if replaces {
		l[api.LabelReplace] = svc.ContainerName
		if svc.ContainerName == "" {
			l[api.LabelReplace] = svc.Name + "-" + strconv.Itoa(number)
		}
	}
	return l
}

// resolveReferences puts containers in the place of services.
func (u *up) resolveReferences(host *ctypes.HostConfig) error {
	resolve := func(mode, what string) (string, error) {
		service, ok := strings.CutPrefix(mode, servicePrefix)
		if !ok {
			return mode, nil
		}
		id := u.firstID(service)
		if id == "" {
			return "", fmt.Errorf("cannot share %s namespace with service %s: container missing", what, service)
		}
		return containerPrefix + id, nil
	}
	net, err := resolve(string(host.NetworkMode), "network")
	if err != nil {
		return err
	}
	ipc, err := resolve(string(host.IpcMode), "IPC")
	if err != nil {
		return err
	}
	pid, err := resolve(string(host.PidMode), "PID")
	if err != nil {
		return err
	}
	host.NetworkMode, host.IpcMode, host.PidMode = ctypes.NetworkMode(net), ctypes.IpcMode(ipc), ctypes.PidMode(pid)
	host.VolumesFrom = slices.Clone(host.VolumesFrom)
	for i, from := range host.VolumesFrom {
		if c, ok := strings.CutPrefix(from, containerPrefix); ok {
			host.VolumesFrom[i] = c
			continue
		}
		service, access, restricted := strings.Cut(from, ":")
		id := u.firstID(service)
		if id == "" {
			return fmt.Errorf("cannot share volume with service %s: container missing", service)
		}
		host.VolumesFrom[i] = id
		if restricted {
			host.VolumesFrom[i] += ":" + access
		}
	}
	return nil
}

// inherit gives the new container the anonymous volumes of the one it replaces.
func inherit(svc *api.ProjectService, old *member, img *image.Image) []mount.Mount {
	var mounts []mount.Mount
	inherited := map[string]bool{}
	for _, m := range old.Mounts {
		if m.Type != mount.TypeVolume {
			continue
		}
		_, ofImage := img.Config.Config.Volumes[m.Destination]
		_, ofConfig := svc.Config.Volumes[m.Destination]
		anonymous := slices.ContainsFunc(svc.HostConfig.Mounts, func(want mount.Mount) bool {
			return want.Type == mount.TypeVolume && want.Source == "" && want.Target == m.Destination
		})
		if (ofImage || ofConfig || anonymous) && !boundElsewhere(svc.HostConfig, m.Destination) {
			inherited[m.Destination] = true
			mounts = append(mounts, mount.Mount{Type: m.Type, Source: m.Name, Target: m.Destination, ReadOnly: !m.RW})
		}
	}
	for _, want := range svc.HostConfig.Mounts {
		if !inherited[want.Target] {
			mounts = append(mounts, want)
		}
	}
	return mounts
}

// boundElsewhere says whether the new configuration mounts something named there.
func boundElsewhere(host *ctypes.HostConfig, target string) bool {
	for _, m := range host.Mounts {
		if m.Target == target && m.Source != "" {
			return true
		}
	}
	for _, b := range host.Binds {
		f := strings.Split(b, ":")
		if len(f) > 1 && f[1] == target {
			return true
		}
	}
	return false
}
