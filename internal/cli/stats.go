package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/spf13/cobra"

	"muelle/client"
	"muelle/internal/console"
)

const statsFormat = `table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}`

// board holds the readings of all containers that are watched.
type board struct {
	mu    sync.Mutex
	order []string
	all   map[string]*reading
	errs  map[string]error
	wg    sync.WaitGroup
}

func (b *board) rows(trunc bool) []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []any
	for _, k := range b.order {
		out = append(out, &statsRow{*b.all[k], trunc})
	}
	return out
}

func (b *board) remove(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, key)
	for i, k := range b.order {
		if k == key {
			b.order = append(b.order[:i], b.order[i+1:]...)
			return
		}
	}
}

// watch follows one container; first is called after its first reading or failure.
func (b *board) watch(ctx context.Context, c *client.Client, key string, stream bool, first func()) {
	b.mu.Lock()
	if _, known := b.all[key]; known {
		b.mu.Unlock()
		first()
		return
	}
	r := &reading{container: key, id: key}
	b.all[key] = r
	b.order = append(b.order, key)
	b.mu.Unlock()
	b.wg.Go(func() {
		once := sync.OnceFunc(first)
		defer once()
		err := b.follow(ctx, c, key, stream, r, once)
		b.mu.Lock()
		defer b.mu.Unlock()
		r.valid = r.valid && !stream
		if err != nil && !errors.Is(err, io.EOF) {
			b.errs[key] = err
		}
	})
}

func (b *board) follow(ctx context.Context, c *client.Client, key string, stream bool, r *reading, got func()) error {
	body, err := c.Containers.Stats(ctx, key, stream)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	for d := json.NewDecoder(body); ; {
		var v container.StatsResponse
		if err := d.Decode(&v); err != nil {
			return err
		}
		b.mu.Lock()
		r.take(&v)
		b.mu.Unlock()
		got()
		if !stream {
			return nil
		}
	}
}

type statsFlags struct {
	all, noStream, noTrunc bool
	format                 string
}

func (a *app) stats() *cobra.Command {
	var o statsFlags
	c := a.command("stats [OPTIONS] [CONTAINER...]", "Display a live stream of container(s) resource usage statistics", nil, func(ctx context.Context, args []string) error {
		return a.showStats(ctx, args, o)
	})
	f := c.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show all containers (default shows just running)")
	f.BoolVar(&o.noStream, "no-stream", false, "Disable streaming stats and only pull the first result")
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Do not truncate output")
	f.StringVar(&o.format, "format", "", formatHelp)
	return a.also(c, "container stats", "stats")
}

func (a *app) showStats(ctx context.Context, refs []string, o statsFlags) error {
	conf, err := a.configured(func(c *console.DockerConfig) string { return c.StatsFormat })
	if err != nil {
		return err
	}
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	b := &board{all: map[string]*reading{}, errs: map[string]error{}}
	defer b.wg.Wait()
	defer cancel()
	var first sync.WaitGroup
	add := func(key string) { first.Add(1); b.watch(ctx, c, key, !o.noStream, first.Done) }
	if len(refs) == 0 {
		if err := a.watchAll(ctx, c, b, o, add); err != nil {
			return err
		}
	}
	for _, r := range refs {
		add(r)
	}
	first.Wait()
	b.mu.Lock()
	var errs []error
	for _, r := range refs {
		errs = append(errs, b.errs[r])
	}
	b.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	source := pick(o.format, conf)
	if source == "table" {
		source = statsFormat
	}
	return a.paintStats(ctx, b, source, o)
}

// watchAll adds the containers that run, and those that start later.
func (a *app) watchAll(ctx context.Context, c *client.Client, b *board, o statsFlags, add func(string)) error {
	if !o.noStream {
		body, err := c.System.Events(ctx, "", "", client.Filters{"type": {"container"}})
		if err != nil {
			return err
		}
		b.wg.Go(func() {
			defer func() { _ = body.Close() }()
			for d := json.NewDecoder(body); ; {
				var m events.Message
				if d.Decode(&m) != nil {
					return
				}
				key := console.ShortID(m.Actor.ID)
				switch m.Action {
				case events.ActionStart:
					b.watch(ctx, c, key, true, func() {})
				case events.ActionDie:
					if !o.all {
						b.remove(key)
					}
				case events.ActionDestroy:
					b.remove(key)
				}
			}
		})
	}
	found, err := c.Containers.List(ctx, client.ListOptions{All: o.all})
	if err != nil {
		return err
	}
	for _, x := range found {
		add(console.ShortID(x.ID))
	}
	return nil
}

func (a *app) paintStats(ctx context.Context, b *board, source string, o statsFlags) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	headers := map[string]string{"Container": "CONTAINER", "Name": titleName, "ID": titleID, "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT",
		"MemPerc": "MEM %", "NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS"}
	for {
		var text strings.Builder
		t := console.Table{Out: &text, Format: source, Headers: headers}
		if err := t.Write(b.rows(!o.noTrunc)...); err != nil {
			return err
		}
		if o.noStream {
			_, err := io.WriteString(a.Out, text.String())
			return err
		}
		// From the top left, each line's rest erased, then what is below.
		out := "\033[H" + strings.ReplaceAll(text.String(), "\n", "\033[K\n") + "\033[J"
		if _, err := fmt.Fprint(a.Out, out); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
