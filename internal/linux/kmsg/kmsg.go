// Package kmsg reads the kernel's log.
package kmsg

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Line is one record.
type Line struct {
	At   time.Time // to some seconds: the log's clock stands while the machine sleeps
	Text string
}

// maxLines bounds what is looked at: the ring buffer may be large, and interesting is
// what came last.
const maxLines = 20000

// slack is by how much the log's clock may be behind: it is the processor's, which
// nobody corrects.
const slack = 10 * time.Second

// Read gives the records from that time on (and from shortly before), oldest first.
func Read(since time.Time) ([]Line, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read kernel's log: %w", &os.PathError{Op: "open", Path: "/dev/kmsg", Err: err})
	}
	defer unix.Close(fd)
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		return nil, err
	}
	boot := time.Now().Add(-time.Duration(ts.Nano()))
	since = since.Add(-slack)
	var out []Line
	buf := make([]byte, 8<<10) // the kernel's CONSOLE_EXT_LOG_MAX
	for range maxLines {
		n, err := unix.Read(fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return out, nil
		case errors.Is(err, unix.EPIPE):
			continue // overwritten meanwhile: the next read goes on behind it
		case err != nil:
			return out, fmt.Errorf("read kernel's log: %w", err)
		}
		if l, ok := Parse(string(buf[:n]), boot); ok && !l.At.Before(since) {
			out = append(out, l)
		}
	}
	return out, nil
}

// Parse reads a record as /dev/kmsg gives it: "prio,sequence,microseconds,flags;text"
// and lines of properties behind it (Documentation/ABI/testing/dev-kmsg).
func Parse(record string, boot time.Time) (Line, bool) {
	head, text, ok := strings.Cut(record, ";")
	f := strings.Split(head, ",")
	if !ok || len(f) < 4 {
		return Line{}, false
	}
	us, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || us < 0 || us > int64(1<<62)/1000 {
		return Line{}, false
	}
	text, _, _ = strings.Cut(text, "\n")
	return Line{At: boot.Add(time.Duration(us) * time.Microsecond), Text: text}, true
}

// Pids gives the processes that a record speaks of: "pid=12", "process 12 (name)" and
// "name[12]: segfault".
func Pids(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`\bpid=(\d+)|\b[Pp]rocess (\d+)|\S\[(\d+)\][: ]`).FindAllStringSubmatch(text, 4) {
		for _, p := range m[1:] {
			if p != "" {
				out = append(out, p)
			}
		}
	}
	return out
}

// maxAbout bounds what About gives.
const maxAbout = 8

// About gives the records since then that name the control group, or one of the
// processes that such records, or the caller, name.
func About(group string, pid int, since time.Time) ([]string, error) {
	lines, err := Read(since)
	if err != nil {
		return nil, err
	}
	pids := map[string]bool{strconv.Itoa(pid): pid != 0}
	for _, l := range lines {
		if strings.Contains(l.Text, group) {
			for _, p := range Pids(l.Text) {
				pids[p] = true
			}
		}
	}
	var out []string
	for _, l := range lines {
		if strings.Contains(l.Text, group) || slices.ContainsFunc(Pids(l.Text), func(p string) bool { return pids[p] }) {
			out = append(out, l.Text)
		}
	}
	return out[max(0, len(out)-maxAbout):], nil
}
