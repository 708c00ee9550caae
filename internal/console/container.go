package console

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
)

// Container are the cells of a container's row that `ps` and `compose ps` have in
// common. Templates call its methods.
type Container struct {
	Of    container.Summary
	Trunc bool // long cells are cut, as without --no-trunc
	Reach Reach
}

// ID is the container's id.
func (r *Container) ID() string {
	if r.Trunc {
		return ShortID(r.Of.ID)
	}
	return r.Of.ID
}

// Command is the command line, quoted.
func (r *Container) Command() string {
	c := r.Of.Command
	if r.Trunc {
		c = Ellipsis(c, 20)
	}
	return strconv.Quote(c)
}

// CreatedAt is the time of creation.
func (r *Container) CreatedAt() string { return time.Unix(r.Of.Created, 0).String() }

// RunningFor is the time since creation.
func (r *Container) RunningFor() string { return HumanAge(time.Unix(r.Of.Created, 0)) }

// State is one word.
func (r *Container) State() string { return string(r.Of.State) }

// Status is a phrase.
func (r *Container) Status() string { return r.Of.Status }

// Labels are all labels.
func (r *Container) Labels() string { return LabelText(r.Of.Labels) }

// Label is one label's value.
func (r *Container) Label(name string) string { return r.Of.Labels[name] }

// Mounts are the volumes' names and binds' sources.
func (r *Container) Mounts() string {
	var all []string
	for _, m := range r.Of.Mounts {
		name := cmp.Or(m.Name, m.Source)
		if r.Trunc {
			name = Ellipsis(name, 15)
		}
		all = append(all, name)
	}
	return strings.Join(all, ",")
}

// Networks are the networks' names.
func (r *Container) Networks() string {
	var all []string
	if r.Of.NetworkSettings != nil {
		for name := range r.Of.NetworkSettings.Networks {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}
