package userns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Sub is a range of the host's ids that belongs to a user or a group.
type Sub struct {
	Start, Size uint32
}

// ParseSub reads a file as subuid(5) or subgid(5) describe it and gives the ranges
// of an owner known by any of the names (a name, or an id as text), in the file's
// order.
func ParseSub(r io.Reader, names ...string) ([]Sub, error) {
	var out []Sub
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, ":")
		if len(f) != 3 {
			return nil, fmt.Errorf("line %q: three fields are wanted, name:start:count", line)
		}
		match := false
		for _, n := range names {
			match = match || n != "" && f[0] == n
		}
		if !match {
			continue
		}
		start, err := strconv.ParseUint(f[1], 10, 32)
		size, err2 := strconv.ParseUint(f[2], 10, 32)
		if err = errors.Join(err, err2); err != nil || size == 0 || start+size > 1<<32-1 {
			return nil, fmt.Errorf("line %q: not a range of ids", line)
		}
		out = append(out, Sub{uint32(start), uint32(size)})
	}
	return out, lines.Err()
}

// Default is the word for an owner that Muelle finds itself.
const Default = "default"

// defaultOwners are asked in turn for "default": Docker's name, ours, Podman's.
var defaultOwners = []string{"dockremap", "muelle", "containers"}

// Remap gives the map for Docker's userns-remap: "default", or a user by name or id,
// and after a colon a group. root is the directory that /etc is in.
func Remap(root, spec string) (*Map, error) {
	user, group, hasGroup := strings.Cut(spec, ":")
	if user == "" || hasGroup && group == "" {
		return nil, fmt.Errorf("invalid userns-remap %q: user, user:group, uid or uid:gid is wanted", spec)
	}
	if spec == Default {
		for _, owner := range defaultOwners {
			m, err := remap(root, names{owner}, names{owner})
			if !errors.Is(err, fs.ErrNotExist) {
				return m, err
			}
		}
		return nil, fmt.Errorf("userns-remap default: no subordinate ids for user dockremap, muelle or containers: %s", remedy(defaultOwners[1]))
	}
	users, err := lookup(root, "etc/passwd", user)
	if err != nil {
		return nil, fmt.Errorf("userns-remap: %w", err)
	}
	groups := users
	if hasGroup {
		if groups, err = lookup(root, "etc/group", group); err != nil {
			return nil, fmt.Errorf("userns-remap: %w", err)
		}
	}
	m, err := remap(root, users, groups)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("userns-remap %s: %w: %s", spec, err, remedy(users[0]))
	}
	return m, err
}

func remedy(owner string) string {
	return fmt.Sprintf("add them with: echo %s:100000:65536 | tee -a /etc/subuid /etc/subgid (any range that nobody else has)", owner)
}

// names are what an owner may be called in subuid: its name, and its number.
type names []string

// lookup finds a user or group by name or number; a number needs no entry.
func lookup(root, file, who string) (names, error) {
	f, err := os.Open(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) >= 3 && (f[0] == who || f[2] == who) {
			return names{f[0], f[2]}, nil
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if _, err := strconv.ParseUint(who, 10, 32); err == nil {
		return names{who}, nil
	}
	return nil, fmt.Errorf("%s is not in /%s", who, file)
}

// remap concatenates an owner's ranges, as Docker does: the container's ids count
// through them.
func remap(root string, users, groups names) (*Map, error) {
	uids, err := subs(root, "etc/subuid", users)
	if err != nil {
		return nil, err
	}
	gids, err := subs(root, "etc/subgid", groups)
	if err != nil {
		return nil, err
	}
	m := &Map{UIDs: concatenate(uids), GIDs: concatenate(gids)}
	return m, m.Validate()
}

// subs gives an owner's ranges; fs.ErrNotExist where it has none.
func subs(root, file string, owner names) ([]Sub, error) {
	f, err := os.Open(filepath.Join(root, file))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found, err := ParseSub(f, owner...)
	if err != nil {
		return nil, fmt.Errorf("read /%s: %w", file, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no subordinate ids for %s in /%s: %w", owner[0], file, fs.ErrNotExist)
	}
	return found, nil
}

func concatenate(all []Sub) (out []Range) {
	next := uint32(0)
	for _, s := range all {
		if uint64(next)+uint64(s.Size) > 1<<32-1 {
			break
		}
		out = append(out, Range{Container: next, Host: s.Start, Size: s.Size})
		next += s.Size
	}
	return out
}
