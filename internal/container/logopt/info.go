package logopt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"text/template"
	"time"
)

// Info is what a log says about its container. Its methods and fields are what a
// tag's template may use, named as Docker names them.
type Info struct {
	Config              map[string]string
	ContainerID         string
	ContainerName       string // with a slash
	ContainerEntrypoint string
	ContainerArgs       []string
	ContainerImageID    string
	ContainerImageName  string
	ContainerCreated    time.Time
	ContainerEnv        []string
	ContainerLabels     map[string]string
	LogPath             string
	DaemonName          string
}

const shortID = 12

// ID is the first twelve digits of the container's id.
func (i *Info) ID() string { return i.ContainerID[:min(shortID, len(i.ContainerID))] }

// FullID is the container's id.
func (i *Info) FullID() string { return i.ContainerID }

// Name is the container's name without a slash.
func (i *Info) Name() string { return strings.TrimPrefix(i.ContainerName, "/") }

// Command is the entry point and its arguments.
func (i *Info) Command() string {
	return strings.Join(append([]string{i.ContainerEntrypoint}, i.ContainerArgs...), " ")
}

// ImageID is the beginning of the image's id, as Docker cuts it.
func (i *Info) ImageID() string { return i.ContainerImageID[:min(shortID, len(i.ContainerImageID))] }

// ImageFullID is the image's id.
func (i *Info) ImageFullID() string { return i.ContainerImageID }

// ImageName is the name that the container was created from.
func (i *Info) ImageName() string { return i.ContainerImageName }

// Hostname is the machine's name.
func (i *Info) Hostname() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("logger: can not resolve hostname: %w", err)
	}
	return name, nil
}

// tag fills a tag's template; empty: the driver's default.
func (i *Info) tag(fallback string) (string, error) {
	text := i.Config["tag"]
	if text == "" {
		text = fallback
	}
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := template.New("log-tag").Funcs(functions).Parse(text)
	if err != nil {
		return "", invalid("%s", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, i); err != nil {
		return "", invalid("%s", err)
	}
	return b.String(), nil
}

// functions are those of Docker's templates.
var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		b, err := json.Marshal(v)
		return string(b), err
	},
	"split": strings.Split,
	"join":  strings.Join,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": func(s string) string {
		if s == "" {
			return s
		}
		return strings.ToUpper(s[:1]) + s[1:]
	},
	"pad": func(s string, before, after int) string {
		if s == "" {
			return s
		}
		return strings.Repeat(" ", max(0, before)) + s + strings.Repeat(" ", max(0, after))
	},
	"truncate": func(s string, n int) string { return s[:min(len(s), max(0, n))] },
}

// extra gives the labels and variables that were asked for; key, unless nil, turns
// their names into the driver's.
func (i *Info) extra(key func(string) string) (map[string]string, error) {
	out := map[string]string{}
	add := func(k, v string) {
		if key != nil {
			k = key(k)
		}
		out[k] = v
	}
	env := map[string]string{}
	for _, kv := range i.ContainerEnv {
		if i.Config["env"] == "" && i.Config["env-regex"] == "" {
			break
		}
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	for _, from := range []struct {
		option string
		values map[string]string
	}{{"labels", i.ContainerLabels}, {"env", env}} {
		if names := i.Config[from.option]; names != "" {
			for name := range strings.SplitSeq(names, ",") {
				if v, ok := from.values[name]; ok {
					add(name, v)
				}
			}
		}
		if pattern := i.Config[from.option+"-regex"]; pattern != "" {
			re, err := regexp.Compile(pattern)
			if err != nil {
				return nil, invalid("%s", err)
			}
			for name, v := range from.values {
				if re.MatchString(name) {
					add(name, v)
				}
			}
		}
	}
	return out, nil
}
