// Package volume keeps named folders that outlive containers, in data-root/volumes
// as Docker lays them out: NAME/_data holds the content. Who uses a volume is told
// from above (Acquire, Release) and known in memory only; the container service
// says it again after a restart.
package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"muelle/api"
	"muelle/internal/event"
	"muelle/internal/filter"
	"muelle/internal/id"
	"muelle/internal/meta"
)

const (
	recordName    = "volume"
	recordVersion = 1
	dataFolder    = "_data"
)

// record is what is kept of a volume, in NAME/volume.json.
type record struct {
	CreatedAt time.Time
	Driver    string
	Labels    map[string]string
	Options   map[string]string
}

// Service creates, lists and removes volumes. Its methods are safe for concurrent use.
type Service struct {
	root string
	bus  *event.Bus

	mu      sync.Mutex
	volumes map[string]*record
	// users holds the container ids by volume name.
	users map[string]map[string]bool
	// mounts holds those that have options and were used, by name.
	mounts map[string]*mounted
	// removing are the folders whose content is being deleted.
	removing map[string]bool
}

// Open reads the volumes below root (data-root/volumes), which it makes, mode 0701:
// containers of a user namespace must get through, nobody may list (CVE-2021-41091
// is held by data-root's own mode). Folders without a record, as an interrupted
// create or remove leaves them, are removed when they hold nothing and reported
// otherwise.
func Open(root string, bus *event.Bus) (*Service, []error) {
	s := &Service{root: root, bus: bus, volumes: map[string]*record{}, users: map[string]map[string]bool{}, mounts: map[string]*mounted{}, removing: map[string]bool{}}
	if err := os.MkdirAll(root, 0o701); err != nil {
		return s, []error{fmt.Errorf("open volumes: %w", err)}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return s, []error{fmt.Errorf("open volumes: %w", err)}
	}
	var problems []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if strings.HasPrefix(e.Name(), removedPrefix) {
			if err := removeAll(filepath.Join(root, e.Name())); err != nil {
				problems = append(problems, err)
			}
			continue
		}
		if err := s.load(e.Name()); err != nil {
			problems = append(problems, err)
		}
	}
	return s, problems
}

func (s *Service) load(name string) error {
	dir, err := meta.Open[record](filepath.Join(s.root, name), recordVersion)
	if err != nil {
		return err
	}
	// What a daemon that was killed was writing or copying up.
	err = errors.Join(dir.Sweep(), os.RemoveAll(filepath.Join(s.root, name, dataFolder+".copy")))
	if err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	r, err := dir.Load(recordName)
	if err == nil {
		s.volumes[name] = r
		return nil
	}
	if errdefs.IsNotFound(err) {
		// rmdir, never more: content without a record is somebody's data.
		os.Remove(filepath.Join(s.root, name, dataFolder))
		if os.Remove(filepath.Join(s.root, name)) == nil {
			return nil
		}
	}
	return fmt.Errorf("volume %s: %w", name, err)
}

// Create makes a volume, or gives the existing one of that name where driver and
// options agree. An empty name makes an anonymous volume.
func (s *Service) Create(_ context.Context, req volume.CreateRequest) (*volume.Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.create(req)
}

func (s *Service) create(req volume.CreateRequest) (*volume.Volume, error) {
	labels := maps.Clone(req.Labels)
	name := req.Name
	if name == "" {
		name = id.New()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[api.LabelAnonymous] = ""
	}
	if err := checkRequest(name, req); err != nil {
		return nil, err
	}
	if have, ok := s.volumes[name]; ok {
		if len(req.DriverOpts) > 0 && !maps.Equal(have.Options, req.DriverOpts) {
			return nil, errdefs.ErrConflict.WithMessage(fmt.Sprintf("create %s: a volume of this name exists with other options (%s): remove it first, or choose another name", name, shown(have.Options)))
		}
		return s.view(name), nil
	}
	r := &record{CreatedAt: time.Now().Truncate(time.Second), Driver: "local", Labels: labels, Options: maps.Clone(req.DriverOpts)}
	if err := s.make(name, r); err != nil {
		return nil, err
	}
	s.volumes[name] = r
	s.bus.Publish(events.VolumeEventType, events.ActionCreate, name, map[string]string{"driver": r.Driver})
	return s.view(name), nil
}

// longestName is what a directory can be called.
const longestName = 255

func checkRequest(name string, req volume.CreateRequest) error {
	if !id.ValidName(name) {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
			"create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", name, name))
	}
	if len(name) > longestName {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("create a volume: its name has %d characters, and may have %d", len(name), longestName))
	}
	if req.Driver != "" && req.Driver != "local" {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("create %s: error looking up volume plugin %s: plugin %q not found", name, req.Driver, req.Driver))
	}
	if req.ClusterVolumeSpec != nil {
		return errdefs.ErrNotImplemented.WithMessage("cluster volumes are not supported: there is no swarm")
	}
	if _, err := parseOptions(req.DriverOpts); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("create %s: %s", name, err))
	}
	return nil
}

func shown(options map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(options)) {
		list = append(list, k+"="+options[k])
	}
	return strings.Join(append(list, "none")[:max(len(list), 1)], " ")
}

// make writes folder and record; the record last, so that a volume is there whole
// or not at all.
func (s *Service) make(name string, r *record) (err error) {
	dir := filepath.Join(s.root, name)
	if err := os.Mkdir(dir, 0o701); err != nil {
		return fmt.Errorf("create volume %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(dir)
		}
	}()
	if err := os.Mkdir(filepath.Join(dir, dataFolder), 0o755); err != nil {
		return fmt.Errorf("create volume %s: %w", name, err)
	}
	records, err := meta.Open[record](dir, recordVersion)
	if err != nil {
		return err
	}
	_, anonymous := r.Labels[api.LabelAnonymous]
	// No fsync for anonymous volumes: they are on the way of `run`.
	return records.Save(recordName, r, !anonymous)
}

// Get gives one volume; errdefs.ErrNotFound in Docker's words.
func (s *Service) Get(_ context.Context, name string) (*volume.Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.volumes[name] == nil {
		return nil, notFound(name)
	}
	return s.view(name), nil
}

func notFound(name string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("get %s: no such volume", name))
}

func (s *Service) view(name string) *volume.Volume {
	r := s.volumes[name]
	return &volume.Volume{
		Name: name, Driver: r.Driver, Scope: "local",
		Mountpoint: filepath.Join(s.root, name, dataFolder),
		CreatedAt:  r.CreatedAt.Format(time.RFC3339),
		Labels:     maps.Clone(r.Labels), Options: maps.Clone(r.Options),
	}
}

// List gives the volumes that match, by name: filters dangling, driver, label,
// label!, name.
func (s *Service) List(_ context.Context, f filter.Args) ([]volume.Volume, error) {
	if err := f.Validate("dangling", "driver", "label", "label!", "name"); err != nil {
		return nil, err
	}
	dangling, err := f.Bool("dangling", false)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []volume.Volume{}
	for _, name := range slices.Sorted(maps.Keys(s.volumes)) {
		r := s.volumes[name]
		if f.Match("name", name) && f.ExactMatch("driver", r.Driver) && labelsMatch(f, r.Labels) &&
			(!f.Has("dangling") || dangling == (len(s.users[name]) == 0)) {
			list = append(list, *s.view(name))
		}
	}
	return list, nil
}

func labelsMatch(f filter.Args, labels map[string]string) bool {
	return f.MatchLabels("label", labels) && (!f.Has("label!") || !f.MatchLabels("label!", labels))
}

// Acquire gives the volume of that name, made where it is missing, and holds it for
// a container. An empty name makes an anonymous one.
func (s *Service) Acquire(_ context.Context, name, user string) (*volume.Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.create(volume.CreateRequest{Name: name})
	if err != nil {
		return nil, err
	}
	if s.users[v.Name] == nil {
		s.users[v.Name] = map[string]bool{}
	}
	s.users[v.Name][user] = true
	return v, nil
}

// Release ends what Acquire began; a volume or user that is not known is no error.
func (s *Service) Release(_ context.Context, name, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users[name], user)
	if len(s.users[name]) == 0 {
		delete(s.users, name)
	}
}

// Users gives the ids of the containers that hold a volume.
func (s *Service) Users(name string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.users[name]))
}
