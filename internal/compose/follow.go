package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"muelle/api"
	"muelle/client"
	"muelle/internal/compose/display"
)

// follower prints the logs of a project's containers as they come and go, told by
// the daemon's events. Its subscription begins before anything is started, so that
// no line is missed.
type follower struct {
	cli      *client.Client
	project  string
	logs     *display.Logs
	options  client.LogOptions // of the containers that run already
	services []string          // empty: all
	exited   func(ctx context.Context, service string, code int)
	since    time.Time

	begun   chan struct{} // closed when printing may begin
	settled bool
	idle    chan struct{} // closed when nothing runs any more

	mu       sync.Mutex
	live     map[string]bool   // by name
	died     map[string]int64  // by name: time of the last death
	streams  map[string]func() // by name: waits for the log's end
	work     sync.WaitGroup
	stop     context.CancelFunc
	starting sync.Once
	closing  sync.Once
}

func newFollower(ctx context.Context, c *client.Client, project string, logs *display.Logs, o client.LogOptions, services []string,
	exited func(context.Context, string, int),
) (*follower, error) {
	ctx, stop := context.WithCancel(ctx)
	f := &follower{
		cli: c, project: project, logs: logs, options: o, services: services, exited: exited,
		since: time.Now(), begun: make(chan struct{}), idle: make(chan struct{}),
		live: map[string]bool{}, died: map[string]int64{}, streams: map[string]func(){}, stop: stop,
	}
	body, err := c.System.Events(ctx, "", "", client.Filters{
		"type":  {string(events.ContainerEventType)},
		"label": {api.LabelProject + "=" + project},
		"event": {"start", "die"},
	})
	if err != nil {
		stop()
		return nil, err
	}
	running, err := c.Containers.List(ctx, client.ListOptions{Filters: projectFilter(project)})
	if err != nil {
		stop()
		_ = body.Close()
		return nil, err
	}
	for _, m := range running {
		if f.watches(m.Labels) {
			name := containerName(m)
			f.open(ctx, m.ID, name, shortName(project, m.Labels, name), f.options)
		}
	}
	f.work.Go(func() { f.listen(ctx, body) })
	return f, nil
}

func (f *follower) watches(labels map[string]string) bool {
	return labels[api.LabelOneOff] != "True" && (len(f.services) == 0 || slices.Contains(f.services, labels[api.LabelService]))
}

// begin names the containers and lets their lines out, after the progress was
// drawn.
func (f *follower) begin(ctx context.Context, announce bool) {
	f.starting.Do(func() {
		defer close(f.begun)
		if !announce {
			return
		}
		list, err := f.cli.Containers.List(ctx, client.ListOptions{All: true, Filters: projectFilter(f.project)})
		if err != nil {
			return // the streams will tell
		}
		var names []string
		for _, m := range list {
			if f.watches(m.Labels) {
				names = append(names, shortName(f.project, m.Labels, containerName(m)))
			}
		}
		slices.Sort(names)
		for _, n := range names {
			f.logs.Register(n)
		}
		if len(names) > 0 {
			f.logs.Note("Attaching to " + strings.Join(names, ", "))
		}
	})
}

// open begins to print a container's log under a short name.
func (f *follower) open(ctx context.Context, id, name, short string, o client.LogOptions) {
	o.Follow = true
	done := make(chan struct{})
	f.mu.Lock()
	f.live[name] = true
	f.streams[name] = func() { <-done }
	f.mu.Unlock()
	f.work.Go(func() {
		defer close(done)
		select {
		case <-f.begun:
		case <-ctx.Done():
			return
		}
		err := copyLogs(ctx, f.cli, id, short, f.logs, o)
		if err != nil && ctx.Err() == nil {
			f.logs.Status(short, "logs: "+err.Error())
		}
	})
}

func (f *follower) listen(ctx context.Context, body io.ReadCloser) {
	defer func() { _ = body.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = body.Close() })
	defer stop()
	for d := json.NewDecoder(body); ; {
		var m events.Message
		if err := d.Decode(&m); err != nil {
			// The daemon went away: nothing more will be known.
			f.mu.Lock()
			defer f.mu.Unlock()
			clear(f.live)
			f.settled = true
			f.checkIdle()
			return
		}
		if !f.watches(m.Actor.Attributes) {
			continue
		}
		name := m.Actor.Attributes["name"]
		switch m.Action {
		case events.ActionStart:
			f.mu.Lock()
			since := f.since
			if t := f.died[name]; t != 0 {
				since = time.Unix(0, t)
			}
			f.mu.Unlock()
			o := f.options
			o.Since, o.Tail = unixTime(since), ""
			f.open(ctx, m.Actor.ID, name, shortName(f.project, m.Actor.Attributes, name), o)
		case events.ActionDie:
			f.ended(ctx, m, name)
		}
	}
}

func (f *follower) ended(ctx context.Context, m events.Message, name string) {
	code, err := strconv.Atoi(m.Actor.Attributes["exitCode"])
	if err != nil {
		code = -1
	}
	f.mu.Lock()
	f.died[name] = m.TimeNano
	wait := f.streams[name]
	f.mu.Unlock()
	f.work.Go(func() {
		if wait != nil {
			wait()
		}
		restarting := false
		if info, err := f.cli.Containers.Inspect(ctx, m.Actor.ID); err == nil && info.State != nil {
			// One that is back already was restarted too.
			restarting = info.State.Restarting || info.State.Running
		}
		text := fmt.Sprintf("exited with code %d", code)
		if restarting {
			text += " (restarting)"
		}
		if ctx.Err() == nil {
			f.logs.Status(shortName(f.project, m.Actor.Attributes, name), text)
		}
		if !restarting && f.exited != nil {
			f.exited(ctx, m.Actor.Attributes[api.LabelService], code)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		// A newer start may have come meanwhile.
		if f.died[name] == m.TimeNano && !restarting {
			delete(f.live, name)
		}
		f.checkIdle()
	})
}

// settle says that nothing more will be started by the session; names are the
// containers whose events are sure to come.
func (f *follower) settle(started []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range started {
		if _, known := f.live[name]; !known && f.died[name] == 0 {
			f.live[name] = true
		}
	}
	f.settled = true
	f.checkIdle()
}

func (f *follower) checkIdle() {
	if f.settled && len(f.live) == 0 {
		f.closing.Do(func() { close(f.idle) })
	}
}

// close ends every stream and waits for them.
func (f *follower) close() {
	f.stop()
	f.work.Wait()
}

// copyLogs prints a container's log until it ends.
func copyLogs(ctx context.Context, c *client.Client, id, name string, logs *display.Logs, o client.LogOptions) error {
	info, err := c.Containers.Inspect(ctx, id)
	if err != nil {
		return err
	}
	body, err := c.Containers.Logs(ctx, id, o)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = body.Close() })
	defer stop()
	out, errs := logs.Writer(name, false), logs.Writer(name, true)
	if info.Config != nil && info.Config.Tty {
		_, err = io.Copy(out, body)
	} else {
		_, err = stdcopy.StdCopy(out, errs, body)
	}
	err = errors.Join(err, out.Close(), errs.Close())
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// unixTime is a time as the daemon takes it: seconds and nanoseconds.
func unixTime(t time.Time) string {
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}

func containerName(c container.Summary) string {
	if len(c.Names) == 0 {
		return c.ID
	}
	return strings.TrimPrefix(c.Names[0], "/")
}

// shortName leaves the project's name off a container's that was made of project,
// service and number; a name of the user's own stays whole.
func shortName(project string, labels map[string]string, name string) string {
	short := labels[api.LabelService] + "-" + labels[api.LabelContainerNumber]
	if name == project+"-"+short {
		return short
	}
	return name
}

func projectFilter(name string) client.Filters {
	return client.Filters{"label": {api.LabelProject + "=" + name}}
}
