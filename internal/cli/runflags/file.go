package runflags

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"
)

// readPairs reads files of KEY=VALUE lines. A line without a value is looked up;
// where lookup is nil or knows nothing the line is left out.
func readPairs(files []string, lookup func(string) (string, bool)) ([]string, error) {
	var out []string
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", name, unwrapPath(err))
		}
		b = bytes.TrimPrefix(b, []byte("\xEF\xBB\xBF"))
		n := 0
		for raw := range strings.Lines(string(b)) {
			n++
			line, err := pairOf(strings.TrimSuffix(strings.TrimSuffix(raw, "\n"), "\r"), n, lookup)
			if err != nil {
				return nil, fmt.Errorf("invalid env file (%s): %w", name, err)
			}
			if line != "" {
				out = append(out, line)
			}
		}
	}
	return out, nil
}

func pairOf(raw string, n int, lookup func(string) (string, bool)) (string, error) {
	if !utf8.ValidString(raw) {
		return "", fmt.Errorf("invalid utf8 bytes at line %d: %v", n, []byte(raw))
	}
	line := strings.TrimLeftFunc(raw, unicode.IsSpace)
	if line == "" || line[0] == '#' {
		return "", nil
	}
	k, _, hasValue := strings.Cut(line, "=")
	if k == "" {
		return "", fmt.Errorf("no variable name on line '%s'", line)
	}
	if strings.ContainsAny(k, " \t") {
		return "", fmt.Errorf("variable '%s' contains whitespaces", k)
	}
	if hasValue {
		return line, nil
	}
	if lookup != nil {
		if v, ok := lookup(k); ok {
			return k + "=" + v, nil
		}
	}
	return "", nil
}

func unwrapPath(err error) error {
	if p, ok := err.(*os.PathError); ok { // os returns it bare
		return p.Err
	}
	return err
}

// Env collects the variables of files and of -e, the latter last.
func Env(files, given []string) ([]string, error) {
	out, err := readPairs(files, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	return append(out, given...), nil
}

// CheckEnv is the check of a flag that takes variables.
func CheckEnv(s string) (string, error) { return checkEnv(s) }

// CheckLabel is the check of a flag that takes labels.
func CheckLabel(s string) (string, error) { return checkLabel(s) }

// Pairs makes a map of KEY=VALUE strings.
func Pairs(all []string) map[string]string {
	m := make(map[string]string, len(all))
	for _, s := range all {
		k, v, _ := strings.Cut(s, "=")
		m[k] = v
	}
	return m
}
