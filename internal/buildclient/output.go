package buildclient

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	bkclient "github.com/moby/buildkit/client"

	"muelle/internal/console"
)

// exporterStore is the daemon's image store, as Docker's builder names it.
const exporterStore = "moby"

// exports says where the result goes.
func exports(o Options, opt *bkclient.SolveOpt) error {
	outputs := o.Outputs
	if len(outputs) == 0 {
		outputs = []string{"type=" + exporterStore}
	}
	for _, s := range outputs {
		entry, err := export(s, o)
		if err != nil {
			return err
		}
		opt.Exports = append(opt.Exports, entry)
	}
	return nil
}

func export(s string, o Options) (bkclient.ExportEntry, error) {
	typ, attrs, err := typed(s, bkclient.ExporterLocal, "dest")
	if err != nil {
		return bkclient.ExportEntry{}, fmt.Errorf("invalid output: %w", err)
	}
	dest, given := attrs["dest"]
	delete(attrs, "dest")
	// "-o -" is the root filesystem as a tar archive on standard output.
	if typ == bkclient.ExporterLocal && dest == "-" {
		typ = bkclient.ExporterTar
	}
	e := bkclient.ExportEntry{Type: typ, Attrs: attrs}
	switch typ {
	case "registry":
		e.Type = bkclient.ExporterImage
		attrs["push"] = "true"
		return e, name(attrs, o)
	case bkclient.ExporterImage, exporterStore:
		return e, errors.Join(name(attrs, o), annotate(attrs, o.Annotations))
	case bkclient.ExporterDocker:
		if !given {
			e.Type = exporterStore
			return e, name(attrs, o)
		}
		return e, errors.Join(name(attrs, o), archive(&e, dest, o.Stdout))
	case bkclient.ExporterOCI:
		if tar, err := strconv.ParseBool(attrs["tar"]); err == nil && !tar {
			if !given || dest == "-" {
				return e, errors.New("dest is required for oci exporter with tar=false")
			}
			e.OutputDir = dest
			return e, name(attrs, o)
		}
		return e, errors.Join(name(attrs, o), annotate(attrs, o.Annotations), archive(&e, dest, o.Stdout))
	case bkclient.ExporterTar:
		return e, archive(&e, dest, o.Stdout)
	case bkclient.ExporterLocal:
		if !given || dest == "" {
			return e, errors.New("dest is required for local exporter")
		}
		e.OutputDir = dest
		return e, nil
	case "cacheonly":
		return e, errors.New(`output type "cacheonly" is not supported`)
	}
	return e, fmt.Errorf("unknown output type %q", typ)
}

// name gives the exporter the tags, unless the output names the image itself.
func name(attrs map[string]string, o Options) error {
	if _, ok := attrs["name"]; !ok && len(o.Tags) > 0 {
		attrs["name"] = strings.Join(o.Tags, ",")
	}
	if attrs["push"] == "true" && attrs["name"] == "" {
		return errors.New("tag is needed when pushing to registry")
	}
	return nil
}

// annotate adds "key=value" or "manifest,index:key=value" annotations.
func annotate(attrs map[string]string, annotations []string) error {
	for _, a := range annotations {
		key, value, ok := strings.Cut(a, "=")
		if !ok {
			return fmt.Errorf("invalid annotation %q, expected key=value", a)
		}
		where, rest, typed := strings.Cut(key, ":")
		if !typed {
			attrs["annotation."+key] = value
			continue
		}
		for w := range strings.SplitSeq(where, ",") {
			switch w {
			case "index", "index-descriptor", "manifest", "manifest-descriptor":
				attrs["annotation-"+w+"."+rest] = value
			default:
				return fmt.Errorf("unknown annotation type %q in %q", w, a)
			}
		}
	}
	return nil
}

// archive sends a tar archive to a file, or to standard output.
func archive(e *bkclient.ExportEntry, dest string, stdout io.Writer) error {
	if dest == "" || dest == "-" {
		if stdout == nil {
			return fmt.Errorf("dest is required for %s exporter", e.Type)
		}
		if console.IsTerminal(stdout) {
			return fmt.Errorf("dest file is required for %s exporter. refusing to write to console", e.Type)
		}
		e.Output = func(map[string]string) (io.WriteCloser, error) { return nopCloser{stdout}, nil }
		return nil
	}
	if st, err := os.Stat(dest); err == nil && st.IsDir() {
		return fmt.Errorf("destination file %s is a directory", dest)
	}
	if st, err := os.Stat(filepath.Dir(dest)); err != nil || !st.IsDir() {
		return fmt.Errorf("invalid destination file %s: its folder does not exist", dest)
	}
	e.Output = func(map[string]string) (io.WriteCloser, error) { return os.Create(dest) }
	return nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
