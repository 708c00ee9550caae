package project

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sync/errgroup"

	"muelle/api"
	"muelle/internal/image"
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
	for _, from := range slices.Concat(svc.HostConfig.VolumesFrom, svc.HostConfig.Links) {
		if !strings.HasPrefix(from, containerPrefix) {
			name, _, _ := strings.Cut(from, ":")
			out = append(out, name)
		}
	}
	return out
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
	if err == nil {
		err = u.finishRecreations(ctx, svc, p.keep)
	}
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
	fresh := map[int]bool{}
	count := 0
	for _, m := range existing {
		p.next = max(p.next, m.number+1)
		// A recreation that was cut off leaves both.
		surplus := count >= svc.Scale || stale[m.ID] && fresh[m.number]
		fresh[m.number] = fresh[m.number] || !stale[m.ID]
		if !surplus {
			count++
		}
		switch {
		case surplus && u.gone[m.ID]:
		case surplus:
			p.remove = append(p.remove, m)
		case stale[m.ID]:
			p.recreate = append(p.recreate, m)
		default:
			p.keep = append(p.keep, m)
		}
	}
	p.create = max(0, svc.Scale-count)
	return p
}

// finishRecreations gives containers their names that a recreation which was cut off
// left under a temporary one.
func (u *up) finishRecreations(ctx context.Context, svc *api.ProjectService, kept []member) error {
	for i, m := range kept {
		name := u.containerName(svc, m.number)
		if prefix, ok := strings.CutSuffix(m.name, "_"+name); !ok || len(prefix) != 12 {
			continue
		}
		if err := u.containers.Rename(ctx, m.ID, name); err != nil {
			return err
		}
		kept[i].name = name
	}
	return nil
}

func (u *up) mustRecreate(svc *api.ProjectService, m member, img *image.Image) bool {
	named := selected(u.o.Services, svc.Name)
	switch {
	case u.o.NoRecreate:
		return false
	case u.o.ForceRecreate && named, u.o.RecreateDeps && !named, u.o.RenewAnonVolumes && named:
		return true
	case m.Labels[api.LabelConfigHash] != u.hash(svc), m.Labels[api.LabelImage] != contentDigest(img),
		m.Labels[api.LabelComposeHealth] != svc.Config.Labels[api.LabelComposeHealth]:
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
