package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/network"
	"github.com/spf13/cobra"

	"muelle/client"
)

func (a *app) logs() *cobra.Command {
	o := client.LogOptions{Stdout: true, Stderr: true}
	c := a.command("logs [OPTIONS] CONTAINER", "Fetch the logs of a container", exactArgs(1), func(ctx context.Context, args []string) error {
		now := time.Now()
		var err error
		if o.Since, err = timestamp(o.Since, now); err != nil {
			return fmt.Errorf(`invalid value for "since": %w`, err)
		}
		if o.Until, err = timestamp(o.Until, now); err != nil {
			return fmt.Errorf(`invalid value for "until": %w`, err)
		}
		return a.showLogs(ctx, args[0], o)
	})
	f := c.Flags()
	f.BoolVarP(&o.Follow, "follow", "f", false, "Follow log output")
	f.StringVar(&o.Since, "since", "", `Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	f.StringVar(&o.Until, "until", "", `Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)`)
	f.BoolVarP(&o.Timestamps, "timestamps", "t", false, "Show timestamps")
	f.BoolVar(&o.Details, "details", false, "Show extra details provided to logs")
	f.StringVarP(&o.Tail, "tail", "n", "all", "Number of lines to show from the end of the logs")
	return a.also(c, "container logs", "logs")
}

func (a *app) showLogs(ctx context.Context, ref string, o client.LogOptions) error {
	api, err := a.api(ctx)
	if err != nil {
		return err
	}
	info, err := api.Containers.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	body, err := api.Containers.Logs(ctx, info.ID, o)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if info.Config.Tty {
		_, err = io.Copy(a.Out, body)
	} else {
		_, err = stdcopy.StdCopy(a.Out, a.Err, body)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// timestamp turns a duration before now, a date or a Unix time into what the API
// takes: seconds and nanoseconds since 1970.
func timestamp(s string, now time.Time) (string, error) {
	if s == "" {
		return "", nil
	}
	// 0 is a Unix time, although it would be a duration too.
	if d, err := time.ParseDuration(s); err == nil && s != "0" {
		return unixNano(now.Add(-d)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02", "2006-01-02Z07:00", "2006-01-02T15:04Z07:00"} {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return unixNano(t), nil
		}
	}
	sec, frac, ok := strings.Cut(s, ".")
	if _, err := strconv.ParseInt(sec, 10, 64); err != nil {
		return "", fmt.Errorf("failed to parse value as time or duration: %q", s)
	}
	if ok && (frac == "" || len(frac) > 9 || strings.Trim(frac, "0123456789") != "") {
		return "", fmt.Errorf("failed to parse value as time or duration: %q", s)
	}
	return s, nil
}

func unixNano(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

func (a *app) top() *cobra.Command {
	c := a.command("top CONTAINER [ps OPTIONS]", "Display the running processes of a container", minArgs(1), func(ctx context.Context, args []string) error {
		api, err := a.api(ctx)
		if err != nil {
			return err
		}
		r, err := api.Containers.Top(ctx, args[0], strings.Join(args[1:], " "))
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(a.Out, 20, 1, 3, ' ', 0)
		_, _ = fmt.Fprintln(w, strings.Join(r.Titles, "\t"))
		for _, p := range r.Processes {
			_, _ = fmt.Fprintln(w, strings.Join(p, "\t"))
		}
		return w.Flush()
	})
	c.Flags().SetInterspersed(false)
	return a.also(c, "container top", "top")
}

func (a *app) port() *cobra.Command {
	c := a.command("port CONTAINER [PRIVATE_PORT[/PROTO]]", "List port mappings or a specific mapping for the container", rangeArgs(1, 2), func(ctx context.Context, args []string) error {
		api, err := a.api(ctx)
		if err != nil {
			return err
		}
		info, err := api.Containers.Inspect(ctx, args[0])
		if err != nil {
			return err
		}
		var ports network.PortMap
		if info.NetworkSettings != nil {
			ports = info.NetworkSettings.Ports
		}
		lines, err := portLines(ports, args)
		if err != nil {
			return err
		}
		for _, l := range lines {
			_, _ = fmt.Fprintln(a.Out, l)
		}
		return nil
	})
	return a.also(c, "container port", "port")
}

func portLines(ports network.PortMap, args []string) ([]string, error) {
	var out []string
	if len(args) > 1 {
		number, _, _ := strings.Cut(args[1], "/")
		if _, err := strconv.ParseUint(number, 10, 16); err != nil {
			return nil, fmt.Errorf("Error: invalid port (%s): %w", number, err)
		}
		p, err := network.ParsePort(args[1])
		if err != nil {
			return nil, err
		}
		if len(ports[p]) == 0 {
			return nil, fmt.Errorf("Error: No public port '%s' published for %s", args[1], args[0])
		}
		for _, b := range ports[p] {
			out = append(out, hostPort(b))
		}
	} else {
		for p, bindings := range ports {
			for _, b := range bindings {
				out = append(out, p.String()+" -> "+hostPort(b))
			}
		}
	}
	slices.SortFunc(out, natural)
	return out, nil
}

func hostPort(b network.PortBinding) string {
	ip := ""
	if b.HostIP.IsValid() {
		ip = b.HostIP.String()
	}
	return net.JoinHostPort(ip, b.HostPort)
}

// oneByOne does something to several objects in turn, printing each name that
// succeeded and each error, and sums the failed ones up.
func (a *app) oneByOne(refs []string, summary string, do func(ref string) error) error {
	var failed []string
	for _, ref := range refs {
		if err := do(ref); err != nil {
			_, _ = fmt.Fprintln(a.Err, err)
			failed = append(failed, ref)
			continue
		}
		_, _ = fmt.Fprintln(a.Out, ref)
	}
	if len(failed) > 0 {
		return fmt.Errorf("Error: %s: %s", summary, strings.Join(failed, ", "))
	}
	return nil
}
