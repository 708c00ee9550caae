package process

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// List gives the processes of these ids as ps prints them with the options that were
// asked for: by the host's ps, as Docker does, or where there is none by our own
// columns, which know the usual options.
func List(ctx context.Context, options string, pids []int) (titles []string, rows [][]string, err error) {
	if err := checkOptions(options); err != nil {
		return nil, nil, err
	}
	ps, err := exec.LookPath("ps")
	if err != nil {
		columns, err := Parse(options)
		if err != nil {
			return nil, nil, err
		}
		rows, err := Rows(columns, pids)
		return Titles(columns), rows, err
	}
	out, err := run(ctx, ps, options, pids)
	if err != nil {
		return nil, nil, err
	}
	return parseTable(out, pids)
}

// checkOptions refuses another column named PID, by which rows would be chosen
// wrongly and show the host's processes.
func checkOptions(options string) error {
	for f := range strings.FieldsSeq(strings.ReplaceAll(options, ",", " ")) {
		name, title, ok := strings.Cut(f, "=")
		name = strings.TrimPrefix(name, "-o")
		if ok && strings.HasPrefix(title, "PID") && name != "pid" {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("specifying %q is not allowed", name+"="+title))
		}
	}
	return nil
}

func run(ctx context.Context, ps, options string, pids []int) (string, error) {
	args := strings.Fields(options)
	ids := make([]string, len(pids))
	for i, p := range pids {
		ids[i] = strconv.Itoa(p)
	}
	out, err := exec.CommandContext(ctx, ps, append(slices.Clone(args), "-q"+strings.Join(ids, ","))...).Output()
	if err != nil {
		// Some options cannot stand beside -q.
		out, err = exec.CommandContext(ctx, ps, args...).Output()
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		if line, _, _ := strings.Cut(string(exit.Stderr), "\n"); line != "" {
			return "", fmt.Errorf("ps: %s", line)
		}
	}
	if err != nil {
		return "", fmt.Errorf("ps: %w", err)
	}
	return string(out), nil
}

// parseTable takes from ps's output the lines of the given processes; the lines of
// threads, which have "-" for an id, belong to the process above them.
func parseTable(out string, pids []int) (titles []string, rows [][]string, err error) {
	head, rest, _ := strings.Cut(out, "\n")
	titles = asciiFields(head)
	at := slices.Index(titles, "PID")
	if at < 0 {
		return nil, nil, errdefs.ErrInvalidArgument.WithMessage("Couldn't find PID field in ps output")
	}
	ours := false
	for line := range strings.Lines(rest) {
		f := asciiFields(line)
		if len(f) <= at || len(f) < len(titles)-1 {
			continue
		}
		if f[at] != "-" {
			pid, err := strconv.Atoi(f[at])
			if err != nil {
				return nil, nil, fmt.Errorf("unexpected pid '%s' in the output of ps: %w", f[at], err)
			}
			ours = slices.Contains(pids, pid)
		}
		if !ours {
			continue
		}
		last := len(titles) - 1
		rows = append(rows, append(slices.Clone(f[:last]), strings.Join(f[last:], " ")))
	}
	return titles, rows, nil
}

// asciiFields splits at ASCII's white space only: a command line may have other.
func asciiFields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("\t\n\f\r ", r) })
}
