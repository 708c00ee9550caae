package logopt

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"muelle/internal/id"
	"muelle/internal/logdriver"
	"muelle/internal/logdriver/remote"
)

// journalSocket is where systemd-journald takes entries in its native protocol.
const journalSocket = "/run/systemd/journal/socket"

// File gives the part of a log's configuration that does not change from one run of
// the container to the next: where the file is and how it rotates. The options are
// valid.
func File(driver string, opts map[string]string, path string) (logdriver.Config, error) {
	c := logdriver.Config{Type: driver}
	if driver == "none" {
		return c, nil
	}
	if _, file := map[string]bool{"json-file": true, "local": true}[driver]; !file {
		if off, err := strconv.ParseBool(opts["cache-disabled"]); err == nil && off {
			return c, nil
		}
	}
	f, err := rotation(driver, opts)
	if err != nil {
		return c, err
	}
	c.Path, c.MaxSize, c.MaxFile, c.Compress = path, f.size, f.count, f.compress
	return c, nil
}

// Check tells whether tag and patterns can be used, without looking anything up.
func Check(driver string, info *Info) error {
	if driver == "none" {
		return nil
	}
	if _, err := info.extra(nil); err != nil {
		return err
	}
	_, err := info.tag("")
	return err
}

// Resolve completes a log's configuration for one run: tag and attributes, which
// follow the container's name, and the service that lines are sent to. helper is the
// path of the program that sends them over TLS.
func Resolve(ctx context.Context, c logdriver.Config, info *Info, helper string) (logdriver.Config, error) {
	if c.Type == "none" {
		return c, nil
	}
	extra, err := info.extra(nil)
	if err != nil {
		return c, err
	}
	tag, err := info.tag("")
	if err != nil {
		return c, err
	}
	if tag != "" {
		extra["tag"] = tag
	}
	if len(extra) > 0 && c.Path != "" {
		b, err := json.Marshal(extra)
		if err != nil {
			return c, err
		}
		c.Extra = string(b)
	}
	switch c.Type {
	case "syslog":
		err = resolveSyslog(ctx, &c, info, helper)
	case "journald":
		err = resolveJournal(&c, info)
	default:
		return c, nil
	}
	c.Remote.NonBlocking = info.Config["mode"] == "non-blocking"
	if size := info.Config["max-buffer-size"]; size != "" && err == nil {
		c.Remote.Buffer, err = units.RAMInBytes(size)
	}
	return c, err
}

func resolveSyslog(ctx context.Context, c *logdriver.Config, info *Info, helper string) error {
	s, err := parseSyslog(info.Config)
	if err != nil {
		return err
	}
	tag, err := info.tag("{{.ID}}")
	if err != nil {
		return err
	}
	c.Remote, err = s.remote(ctx, tag, helper)
	return err
}

func resolveJournal(c *logdriver.Config, info *Info) error {
	if st, err := os.Stat(journalSocket); errors.Is(err, fs.ErrNotExist) || err == nil && st.Mode()&fs.ModeSocket == 0 {
		return invalid("failed to initialize logging driver: journald is not enabled on this host")
	}
	tag, err := info.tag("{{.ID}}")
	if err != nil {
		return err
	}
	fields := map[string]string{
		"CONTAINER_ID": info.ID(), "CONTAINER_ID_FULL": info.ContainerID, "CONTAINER_NAME": info.Name(), "CONTAINER_TAG": tag,
		"IMAGE_NAME": info.ImageName(), "SYSLOG_IDENTIFIER": tag, "CONTAINER_LOG_EPOCH": id.New(),
	}
	extra, err := info.extra(journalKey)
	if err != nil {
		return err
	}
	maps.Copy(fields, extra)
	c.Remote = logdriver.Remote{Kind: "journald", Network: "unixgram", Path: journalSocket}
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		if k != "" {
			c.Remote.Fields = remote.AppendField(c.Remote.Fields, k, nil, []byte(fields[k]))
		}
	}
	return nil
}

// journalKey turns a name into one that the journal takes: capitals, digits and
// underscores, and none of those first.
func journalKey(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, s)
	return strings.TrimLeft(s, "_")
}
