package container

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// makeFolders makes the folders of a container: one on disk for its layer and its log,
// and, where its record goes with it, the one for what is valid for one boot.
func (c *entry) makeFolders() error {
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		return fmt.Errorf("make container's folder: %w", err)
	}
	if c.volatile {
		if err := os.Mkdir(c.execDir, 0o700); err != nil {
			return errors.Join(fmt.Errorf("make container's folder: %w", err), os.Remove(c.dir))
		}
	}
	return c.openRecords()
}

// marker is the file by which programs know that they run in a container of Docker's.
const marker = ".dockerenv"

// makeLayer makes the writable layer, where it is missing.
func (c *entry) makeLayer() error {
	_, err := os.Lstat(c.upper())
	fresh := errors.Is(err, os.ErrNotExist)
	for _, dir := range []string{c.dir, c.upper(), c.work()} {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make container's layer: %w", err)
		}
	}
	// The root directory of the container is the layer's: everybody may enter it.
	if err := os.Chmod(c.upper(), 0o755); err != nil {
		return fmt.Errorf("make container's layer: %w", err)
	}
	if err := c.labelLayer(); err != nil {
		return err
	}
	// Once: a container may remove it.
	if fresh {
		f, err := os.OpenFile(filepath.Join(c.upper(), marker), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return fmt.Errorf("make container's layer: %w", err)
		}
	}
	if len(c.lower) > 0 {
		return nil
	}
	if err := os.Mkdir(c.emptyLayer(), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make container's layer: %w", err)
	}
	return nil
}

// emptyLayer stands below an image without layers: an overlay needs something.
func (c *entry) emptyLayer() string { return filepath.Join(c.layers, "empty") }

func (c *entry) removeFolders() error {
	return errors.Join(c.unmountShm(), os.RemoveAll(c.dir), os.RemoveAll(c.execDir))
}

func (c *entry) upper() string { return filepath.Join(c.layers, "upper") }

func (c *entry) work() string { return filepath.Join(c.layers, "work") }

// writeRecord makes the record durable, except for one that dies with its run.
func (s *Service) writeRecord(c *entry, rec *record) error {
	return c.records.Save(recordName, rec, !c.volatile)
}
