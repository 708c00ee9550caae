// Package memory gives back what an idle process holds: the heap's free pages and
// the pages of the program's own file, which stay in the page cache and come back
// at the cost of a minor fault when they are next needed.
package memory

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// Release gives back everything it can. A call takes some milliseconds, and so
// does the next thing that the process does: it is for quiet moments.
func Release() error {
	debug.FreeOSMemory()
	spans, err := readOnly("/proc/self/maps", "/proc/self/exe")
	if err != nil {
		return err
	}
	for _, s := range spans {
		if err := discard(s); err != nil {
			return fmt.Errorf("give back the program's pages: %w", err)
		}
	}
	return nil
}

// span is a range of addresses.
type span struct{ from, to uintptr }

// readOnly lists the mappings of the program that cannot hold a change: text and
// read-only data, private and without write permission.
func readOnly(maps, exe string) ([]span, error) {
	program, err := os.Readlink(exe)
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	f, err := os.Open(maps)
	if err != nil {
		return nil, fmt.Errorf("read own mappings: %w", err)
	}
	defer f.Close()
	var spans []span
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		var s span
		var perms string
		if n, _ := fmt.Sscanf(line, "%x-%x %s", &s.from, &s.to, &perms); n != 3 {
			continue
		}
		if (perms == "r--p" || perms == "r-xp") && strings.HasSuffix(line, " "+program) {
			spans = append(spans, s)
		}
	}
	return spans, lines.Err()
}

// discard uses the raw call: the range is no Go memory that a slice could name.
func discard(s span) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, s.from, s.to-s.from, unix.MADV_DONTNEED); errno != 0 {
		return errno
	}
	return nil
}
