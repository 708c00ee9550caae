package project

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
	"muelle/internal/container"
	"muelle/internal/image"
	"muelle/internal/step"
)

// containerName is the name of a service's container of that number.
func (u *up) containerName(svc *api.ProjectService, number int) string {
	if svc.ContainerName != "" {
		return svc.ContainerName
	}
	return u.spec.Name + "-" + svc.Name + "-" + strconv.Itoa(number)
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
	host.Links = slices.Clone(host.Links)
	for i, link := range host.Links {
		target, external := strings.CutPrefix(link, containerPrefix)
		if external {
			host.Links[i] = target
			continue
		}
		service, alias, _ := strings.Cut(link, ":")
		id := u.firstID(service)
		if id == "" {
			return fmt.Errorf("cannot link to service %s: container missing", service)
		}
		host.Links[i] = id + ":" + alias
	}
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
			mounts = append(mounts, mount.Mount{
				Type: m.Type, Source: m.Name, Target: m.Destination, ReadOnly: !m.RW,
				// It goes with the new container as it would have gone with the old one.
				VolumeOptions: &mount.VolumeOptions{Labels: map[string]string{api.LabelAnonymous: ""}},
			})
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
