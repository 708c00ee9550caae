package reader

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"muelle/internal/logdriver"
)

// Compress gzips every rotated file that is not yet, if cfg asks for it. One call
// at a time per container; the shim may rotate meanwhile. A crash leaves the plain
// file, and at most a temporary one that the next call replaces.
func Compress(cfg logdriver.Config) error {
	if !cfg.Compress || readable(cfg) != nil {
		return nil
	}
	files, err := list(cfg.Path)
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasSuffix(f.name, ".gz") {
			continue
		}
		if err := compressFile(f.name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("compress log: %w", err)
		}
	}
	return nil
}

func compressFile(name string) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	tmp := name + ".gz.tmp"
	out, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	z, _ := gzip.NewWriterLevel(out, gzip.BestSpeed)
	_, err = io.Copy(z, in)
	if err == nil {
		err = z.Close()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err = os.Rename(tmp, name+".gz"); err != nil {
		return err
	}
	return os.Remove(name)
}
