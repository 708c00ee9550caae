package ocirun

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// listed is one container of list, in runc's words.
type listed struct {
	Version     string               `json:"ociVersion"`
	ID          string               `json:"id"`
	Pid         int                  `json:"pid"`
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Owner       string               `json:"owner"`
}

func (a *App) list(args []string) error {
	f := flags()
	var format string
	var quiet bool
	for _, n := range []string{"format", "f"} {
		f.StringVar(&format, n, "table", "")
	}
	f.BoolVar(&quiet, "quiet", false, "")
	f.BoolVar(&quiet, "q", false, "")
	if err := parse(f, args, 0, 0); err != nil {
		return err
	}
	all, err := a.containers()
	if err != nil {
		return err
	}
	switch {
	case quiet:
		for _, c := range all {
			fmt.Fprintln(a.Stdout, c.ID)
		}
		return nil
	case format == "json":
		return json.NewEncoder(a.Stdout).Encode(all)
	case format != "table":
		return fmt.Errorf("invalid format option %q", format)
	}
	w := tabwriter.NewWriter(a.Stdout, 12, 1, 3, ' ', 0)
	fmt.Fprint(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", c.ID, c.Pid, c.Status, c.Bundle, c.Created.Format(time.RFC3339Nano), c.Owner)
	}
	return w.Flush()
}

func (a *App) containers() ([]listed, error) {
	all := []listed{}
	entries, err := os.ReadDir(a.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		r, err := a.open(e.Name())
		if err != nil {
			continue // in the making, or gone since
		}
		status, err := r.status()
		r.close()
		if err != nil {
			return nil, err
		}
		one := listed{Version: specVersion, ID: r.ID, Status: status, Bundle: r.Bundle, Rootfs: r.Rootfs,
			Created: r.Created, Annotations: r.Config.Annotations, Owner: "root"}
		if status != specs.StateStopped {
			one.Pid = r.Pid
		}
		all = append(all, one)
	}
	return all, nil
}

func (a *App) ps(args []string) error {
	f := flags()
	var format string
	for _, n := range []string{"format", "f"} {
		f.StringVar(&format, n, "table", "")
	}
	if err := parse(f, args, 1, -1); err != nil {
		return err
	}
	r, err := a.open(f.Arg(0))
	if err != nil {
		return err
	}
	defer r.close()
	g, err := r.group()
	if err != nil {
		return err
	}
	pids, err := g.Pids()
	if err != nil {
		return err
	}
	if format == "json" {
		return json.NewEncoder(a.Stdout).Encode(append([]int{}, pids...))
	}
	if format != "table" {
		return fmt.Errorf("invalid format option %q", format)
	}
	options := f.Args()[1:]
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	out, err := exec.Command("ps", options...).Output()
	if err != nil {
		return fmt.Errorf("ps: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	column := slices.Index(strings.Fields(lines[0]), "PID")
	if column < 0 {
		return errors.New("ps shows no column PID")
	}
	fmt.Fprintln(a.Stdout, lines[0])
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) <= column {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
			fmt.Fprintln(a.Stdout, line)
		}
	}
	return nil
}
