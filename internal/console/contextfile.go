package console

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// maxContextFile bounds what Import reads, as Docker does.
const maxContextFile = 10 << 20

// Export writes a context as Docker's client does: a tar archive with the document
// and the certificates.
func (x Context) Export(w io.Writer) error {
	meta, err := json.Marshal(x.Document())
	if err != nil {
		return err
	}
	t := tar.NewWriter(w)
	add := func(name string, mode int64, b []byte) error {
		h := &tar.Header{Name: name, Mode: mode, Size: int64(len(b))}
		if b == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err := t.Write(b)
		return err
	}
	errs := []error{add("meta.json", 0o644, meta), add("tls", 0o700, nil)}
	if x.CA+x.Cert+x.Key != "" {
		errs = append(errs, add("tls/docker", 0o700, nil))
	}
	for _, f := range []struct{ name, from string }{{"ca.pem", x.CA}, {"cert.pem", x.Cert}, {"key.pem", x.Key}} {
		if f.from == "" {
			continue
		}
		pem, err := pemOf(f.from)
		if err != nil {
			return err
		}
		errs = append(errs, add("tls/docker/"+f.name, 0o600, pem))
	}
	return errors.Join(append(errs, t.Close())...)
}

// ImportContext reads what Export or Docker's client wrote: a tar or zip archive.
func ImportContext(r io.Reader) (Context, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxContextFile+1))
	if err != nil {
		return Context{}, err
	}
	if len(b) > maxContextFile {
		return Context{}, errors.New("read exceeds the defined limit")
	}
	files, err := contextFiles(b)
	if err != nil {
		return Context{}, err
	}
	meta, ok := files["meta.json"]
	if !ok {
		return Context{}, errors.New("invalid context: no metadata found")
	}
	var d ContextDocument
	if err := json.Unmarshal(meta, &d); err != nil {
		return Context{}, fmt.Errorf("invalid context: %w", err)
	}
	e := d.Endpoints["docker"]
	description, _ := d.Metadata["Description"].(string)
	return Context{
		Name: d.Name, Description: description, Host: e.Host, SkipVerify: e.SkipTLSVerify,
		CA: string(files["tls/docker/ca.pem"]), Cert: string(files["tls/docker/cert.pem"]), Key: string(files["tls/docker/key.pem"]),
	}, nil
}

// contextFiles are the regular files of an archive by name. Nothing is written by
// their names; those that are unexpected are refused nevertheless, as Docker does.
func contextFiles(b []byte) (map[string][]byte, error) {
	files := map[string][]byte{}
	keep := func(name string, r io.Reader) error {
		if name != "meta.json" && !strings.HasPrefix(name, "tls/") {
			return fmt.Errorf("%s: unexpected context file", name)
		}
		if path.Clean(name) != name || strings.Contains(name, `\`) {
			return fmt.Errorf("%s: unexpected path format", name)
		}
		text, err := io.ReadAll(io.LimitReader(r, maxContextFile))
		files[name] = text
		return err
	}
	if bytes.HasPrefix(b, []byte("PK\x03\x04")) {
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return nil, err
		}
		for _, f := range slices.DeleteFunc(z.File, func(f *zip.File) bool { return !f.Mode().IsRegular() }) {
			r, err := f.Open()
			if err != nil {
				return nil, err
			}
			if err := errors.Join(keep(f.Name, r), r.Close()); err != nil {
				return nil, err
			}
		}
		return files, nil
	}
	for t := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if err := keep(h.Name, t); err != nil {
			return nil, err
		}
	}
}
