package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// written is what is saved and exported.
var written = map[string]string{"save": "image", "export": "container"}

// ToFile lets write fill a file, which appears when it is complete, or out where path is
// empty or "-". verb is for errors. Archives are not for terminals.
func ToFile(out io.Writer, path, verb string, write func(io.Writer) error) (err error) {
	if path == "" || path == "-" {
		if IsTerminal(out) {
			return fmt.Errorf("cowardly refusing to %s to a terminal. Use the -o flag or redirect", verb)
		}
		return write(out)
	}
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		if fi.IsDir() {
			return fmt.Errorf("failed to %s: %s is a directory", verb, path)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	// Said of the folder, as Docker's client does, not of a temporary file.
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("failed to %s %s: invalid output path: %w", verb, written[verb], err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-"+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("failed to %s: %w", verb, err)
	}
	err = write(tmp)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
