package buildclient

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session/upload/uploadprovider"
	"github.com/tonistiigi/fsutil"
)

// inputs finds the context and the Dockerfile and makes them available to the
// builder.
type inputs struct {
	o    Options
	opt  *bkclient.SolveOpt
	temp []string
}

func (in *inputs) cleanup() {
	for _, dir := range in.temp {
		// A leftover in the temporary folder is no reason to fail a build.
		_ = os.RemoveAll(dir)
	}
}

const defaultDockerfile = "Dockerfile"

func (in *inputs) read() error {
	if err := in.readNamed(); err != nil {
		return err
	}
	switch dir := in.o.ContextDir; {
	case dir == "":
		return errors.New("no build context was given")
	case dir == "-":
		return in.readStdin()
	case isURL(dir):
		return in.readURL()
	default:
		return in.readFolder()
	}
}

// readFolder is the ordinary case.
func (in *inputs) readFolder() error {
	dir := in.o.ContextDir
	st, err := os.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("unable to prepare context: path %q not found", dir)
	}
	if err != nil {
		return fmt.Errorf("unable to prepare context: %w", err)
	}
	if !st.IsDir() {
		return fmt.Errorf("unable to prepare context: path %q is not a directory", dir)
	}
	if err := in.mount("context", dir); err != nil {
		return err
	}
	in.opt.SharedKey = sharedKey(dir)
	text, given, err := in.text()
	if err != nil {
		return err
	}
	if given {
		return in.inline(text)
	}
	path := in.o.Dockerfile
	switch {
	case path == "":
		path = filepath.Join(dir, defaultDockerfile)
	case isURL(path):
		return fmt.Errorf("a Dockerfile at a URL is not supported with a local context: %s", path)
	case !exists(path) && !filepath.IsAbs(path) && exists(filepath.Join(dir, path)):
		path = filepath.Join(dir, path)
	}
	if !exists(path) {
		return fmt.Errorf("failed to read dockerfile: open %s: no such file or directory", path)
	}
	in.opt.FrontendAttrs["filename"] = filepath.Base(path)
	return in.mount("dockerfile", filepath.Dir(path))
}

// text is a Dockerfile that is no file: inline, or on standard input.
func (in *inputs) text() ([]byte, bool, error) {
	if in.o.DockerfileInline != "" {
		return []byte(in.o.DockerfileInline), true, nil
	}
	if in.o.Dockerfile != "-" {
		return nil, false, nil
	}
	if in.o.ContextReader == nil {
		return nil, false, errors.New("there is no standard input to read the Dockerfile from")
	}
	b, err := io.ReadAll(in.o.ContextReader)
	if err != nil {
		return nil, false, fmt.Errorf("read the Dockerfile from standard input: %w", err)
	}
	return b, true, nil
}

// inline puts a Dockerfile's text where the builder can read it.
func (in *inputs) inline(text []byte) error {
	dir, err := in.tempDir()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, defaultDockerfile), text, 0o600); err != nil {
		return err
	}
	in.opt.FrontendAttrs["filename"] = defaultDockerfile
	return in.mount("dockerfile", dir)
}

// readStdin takes standard input for a context's tar archive or, if it is none, for
// a Dockerfile with an empty context.
func (in *inputs) readStdin() error {
	if in.o.Dockerfile == "-" {
		return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
	}
	if in.o.ContextReader == nil {
		return errors.New("there is no standard input to read the context from")
	}
	// Enough for the first header of a tar archive.
	buf := bufio.NewReaderSize(in.o.ContextReader, 1<<16)
	magic, err := buf.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the context from standard input: %w", err)
	}
	if len(magic) == 0 {
		return errors.New("empty stdin: neither a Dockerfile nor a context")
	}
	if !isArchive(magic) {
		text, err := io.ReadAll(buf)
		if err != nil {
			return fmt.Errorf("read the Dockerfile from standard input: %w", err)
		}
		empty, err := in.tempDir()
		if err != nil {
			return err
		}
		return errors.Join(in.mount("context", empty), in.inline(text))
	}
	up := uploadprovider.New()
	in.opt.FrontendAttrs["context"] = up.Add(io.NopCloser(buf))
	in.opt.Session = append(in.opt.Session, up)
	return in.named()
}

// readURL leaves the context to the builder.
func (in *inputs) readURL() error {
	in.opt.FrontendAttrs["context"] = in.o.ContextDir
	return in.named()
}

// named is the Dockerfile of a context that the builder unpacks itself.
func (in *inputs) named() error {
	text, given, err := in.text()
	if err != nil {
		return err
	}
	if given {
		in.opt.FrontendAttrs["dockerfilekey"] = "dockerfile"
		return in.inline(text)
	}
	if in.o.Dockerfile != "" {
		in.opt.FrontendAttrs["filename"] = in.o.Dockerfile
	}
	return nil
}

// readNamed adds the named contexts.
func (in *inputs) readNamed() error {
	for name, value := range in.o.Contexts {
		key := "context:" + strings.ToLower(name)
		switch {
		case strings.HasPrefix(value, "docker-image://"), strings.HasPrefix(value, "target:"), isURL(value):
			in.opt.FrontendAttrs[key] = value
		case strings.HasPrefix(value, "oci-layout://"):
			return fmt.Errorf("build context %s: oci-layout is not supported yet", name)
		default:
			st, err := os.Stat(value)
			if err != nil {
				return fmt.Errorf("failed to get build context %s: %w", name, err)
			}
			if !st.IsDir() {
				return fmt.Errorf("failed to get build context %s: %s is not a directory", name, value)
			}
			mount := name
			if mount == "context" || mount == "dockerfile" {
				mount = "_" + name // those names are taken
			}
			in.opt.FrontendAttrs[key] = "local:" + mount
			if err := in.mount(mount, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (in *inputs) mount(name, dir string) error {
	fs, err := fsutil.NewFS(dir)
	if err != nil {
		return fmt.Errorf("read %s: %w", dir, err)
	}
	in.opt.LocalMounts[name] = fs
	return nil
}

func (in *inputs) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "muelle-build")
	if err != nil {
		return "", err
	}
	in.temp = append(in.temp, dir)
	return dir, nil
}

// sharedKey lets a folder's next build send only what has changed.
func sharedKey(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		abs = dir
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	sum := sha256.Sum256([]byte(host + "\x00" + abs))
	return hex.EncodeToString(sum[:])
}

func isURL(s string) bool {
	for _, p := range []string{"http://", "https://", "git://", "ssh://", "git@", "github.com/"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// isArchive recognises a tar archive, compressed or not, by its first bytes.
func isArchive(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return len(head) > 262 && string(head[257:262]) == "ustar"
}
