package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"muelle/api"
	"muelle/client"
)

// inspectKernel prints what the kernel says of containers: a page each, or what a
// format makes of api.Kernel.
func (a *app) inspectKernel(ctx context.Context, refs []string, format string) error {
	if format != "" {
		kernel := inspector{"container", func(ctx context.Context, c *client.Client, ref string) ([]byte, error) {
			return c.Containers.KernelRaw(ctx, ref)
		}, func() any { return new(api.Kernel) }}
		return a.inspectKind(ctx, refs, format, kernel)
	}
	c, err := a.api(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i, ref := range refs {
		raw, err := c.Containers.KernelRaw(ctx, ref)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		k := new(api.Kernel)
		if err := json.Unmarshal(raw, k); err != nil {
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
		if i > 0 {
			_, _ = fmt.Fprintln(a.Out)
		}
		kernelPage(a.Out, k)
	}
	if err := errors.Join(errs...); err != nil {
		return statusError{1, err.Error()}
	}
	return nil
}

// page prints sections whose lines are aligned in columns.
type page struct {
	out io.Writer
}

// section starts with what it is, and the command that shows the same.
func (p page) section(title, command string) {
	_, _ = fmt.Fprintf(p.out, "\n%s\n", title)
	if command != "" {
		_, _ = fmt.Fprintf(p.out, "  # %s\n", command)
	}
}

func (p page) line(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, "  "+format+"\n", args...)
}

func (p page) table(rows [][]string) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // into memory
	for line := range strings.Lines(b.String()) {
		p.line("%s", strings.TrimRight(line, " \n"))
	}
}

func kernelPage(out io.Writer, k *api.Kernel) {
	p := page{out}
	pid := strconv.Itoa(k.Pid)
	_, _ = fmt.Fprintf(out, "%s (%.12s): process %d, child of shim %d\n", k.Name, k.ID, k.Pid, k.Shim)
	p.section("Namespaces: what the process has for itself, by inode", "ls -l /proc/"+pid+"/ns")
	rows := [][]string{}
	for _, n := range k.Namespaces {
		owner := "its own"
		if n.Host {
			owner = "the host's"
		} else if len(n.SharedWith) > 0 {
			owner = "shared with " + strings.Join(n.SharedWith, ", ")
		}
		rows = append(rows, []string{n.Type, strconv.FormatUint(n.Inode, 10), owner})
	}
	p.table(rows)
	processSection(p, k, pid)
	for _, g := range k.Cgroups {
		title := "Control group, version 2"
		if g.Version == 1 {
			title = "Control group of " + strings.Join(g.Controllers, ", ")
		}
		p.section(title, "cd "+g.Path)
		rows = rows[:0]
		for _, f := range g.Files {
			rows = append(rows, []string{f.Name, strings.ReplaceAll(f.Value, "\n", "; ")})
		}
		p.table(rows)
	}
	p.section("Mounts", "cat /proc/"+pid+"/mountinfo")
	rows = rows[:0]
	for _, m := range k.Mounts {
		rows = append(rows, []string{m.Target, m.Type, m.Source, m.Root, m.Options, m.Propagation})
	}
	p.table(rows)
	networkSections(p, k, pid)
}

func processSection(p page, k *api.Kernel, pid string) {
	pr := k.Process
	p.section("Identity and confinement of the process", "cat /proc/"+pid+"/status")
	p.table([][]string{
		{"command", strings.Join(pr.Command, " ")},
		{"user", numbers(pr.UIDs) + "  (real, effective, saved, file system)"},
		{"group", numbers(pr.GIDs) + "  with " + numbers(pr.Groups)},
		{"user map", strings.Join(pr.UIDMap, "; ") + "  (inside outside count)"},
		{"group map", strings.Join(pr.GIDMap, "; ")},
		{"effective", sets(pr.Effective)},
		{"permitted", sets(pr.Permitted)},
		{"bounding", sets(pr.Bounding)},
		{"inheritable", sets(pr.Inheritable)},
		{"ambient", sets(pr.Ambient)},
		{"no new privileges", strconv.FormatBool(pr.NoNewPrivileges)},
		{"seccomp", fmt.Sprintf("%s, %d filters", pr.Seccomp, pr.SeccompFilters)},
		{"security label", orNone(pr.Label)},
		{"OOM score", strconv.Itoa(pr.OOMScoreAdj)},
	})
	rows := [][]string{}
	for _, l := range pr.Limits {
		rows = append(rows, []string{l.Name, l.Soft, l.Hard, l.Unit})
	}
	p.section("Resource limits: soft and hard", "cat /proc/"+pid+"/limits")
	p.table(rows)
}

func networkSections(p page, k *api.Kernel, pid string) {
	n := k.Network
	if n == nil {
		p.section("Network: the host's", "")
		return
	}
	p.section("Interfaces: a cable each, its other end on the host in a bridge", "nsenter -t "+pid+" -n ip addr")
	rows := [][]string{}
	for _, i := range n.Interfaces {
		peer := ""
		if i.Peer != "" {
			peer = fmt.Sprintf("⇄ %s (%d) in %s, network %s", i.Peer, i.PeerIndex, i.Bridge, i.Network)
		}
		rows = append(rows, []string{fmt.Sprintf("%s (%d)", i.Name, i.Index), i.State, i.MAC, "mtu " + strconv.Itoa(i.MTU), strings.Join(i.Addresses, " "), peer})
	}
	p.table(rows)
	lines := func(title, command string, list []string) {
		if len(list) == 0 {
			return
		}
		p.section(title, command)
		for _, l := range list {
			p.line("%s", l)
		}
	}
	lines("Routes", "nsenter -t "+pid+" -n ip route", n.Routes)
	lines("Rules inside the namespace: names are looked up on 127.0.0.11", "nsenter -t "+pid+" -n nft list ruleset", n.Inside)
	if n.Table == "" {
		return
	}
	lines("Rules of the host that its packets pass", "nft list table inet "+n.Table, n.Rules)
	lines("Rules of the host for the frames that its interfaces send: from their own addresses only", "nft list table bridge "+n.Table, n.Frames)
	lines("What the sets and maps in these rules say of it", "", n.Elements)
}

func numbers(list []int) string {
	if len(list) == 0 {
		return "none"
	}
	words := make([]string, 0, len(list))
	for _, n := range list {
		words = append(words, strconv.Itoa(n))
	}
	return strings.Join(words, " ")
}

func sets(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.ToLower(strings.ReplaceAll(strings.Join(list, " "), "CAP_", ""))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
