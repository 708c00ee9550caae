package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// readFile merges daemon.json into what the flags said. The default file may be
// missing, a named one may not.
func (c *config) readFile(f *pflag.FlagSet) error {
	b, err := os.ReadFile(c.file)
	if errors.Is(err, fs.ErrNotExist) && !f.Changed("config-file") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unable to configure the daemon with file %s: %w", c.file, err)
	}
	if err := c.merge(f, b); err != nil {
		return fmt.Errorf("unable to configure the daemon with file %s: %w", c.file, err)
	}
	return nil
}

// directives reads the file's keys. Those below "proxies" stand beside the others,
// as Docker takes them.
func directives(b []byte) (map[string]json.RawMessage, error) {
	b = bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")))
	if len(b) == 0 {
		return nil, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return nil, err
	}
	if raw, ok := keys["proxies"]; ok {
		var below map[string]json.RawMessage
		if err := json.Unmarshal(raw, &below); err != nil {
			return nil, fmt.Errorf("proxies: %w", err)
		}
		delete(keys, "proxies")
		maps.Copy(keys, below)
	}
	return keys, nil
}

func (c *config) merge(f *pflag.FlagSet, b []byte) error {
	keys, err := directives(b)
	if err != nil {
		return err
	}
	var unknown, twice []string
	own := map[string]json.RawMessage{}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		o := optionOf(key)
		if o == nil {
			unknown = append(unknown, key)
			continue
		}
		// Runtimes from both places add up, in Docker too.
		if fl := f.Lookup(o.flag); o.flag != "" && fl.Changed && key != "runtimes" {
			from, to := fl.Value.String(), compact(keys[key])
			if strings.HasSuffix(key, "-proxy") {
				from, to = "***", "***" // they may carry a password
			}
			twice = append(twice, fmt.Sprintf("%s: (from flag: %s, from file: %s)", key, from, to))
		}
		if o.class == ignored || o.class == refused {
			for _, v := range written(keys[key]) {
				c.other(o, v)
			}
			continue
		}
		own[key] = keys[key]
	}
	switch {
	case len(unknown) > 0:
		return fmt.Errorf("the following directives don't match any configuration option: %s", strings.Join(unknown, ", "))
	case len(twice) > 0:
		return fmt.Errorf("the following directives are specified both as a flag and in the configuration file: %s", strings.Join(twice, ", "))
	}
	if _, ok := keys["group"]; ok {
		c.groupGiven = true
	}
	if _, ok := keys["data-root"]; ok {
		c.dataRootGiven = true
	}
	_, c.tlsverifyGiven = keys["tlsverify"]
	c.TLS = c.TLS || c.tlsverifyGiven
	b, err = json.Marshal(own)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, c)
}

// written are the values of a key as its flag would be given them.
func written(raw json.RawMessage) []string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return []string{s}
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return list
	}
	return []string{compact(raw)}
}

func compact(raw json.RawMessage) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}
