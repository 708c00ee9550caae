// Package meta keeps one kind of record as versioned JSON files in one folder:
// what the engine must know again after a restart. A file holds
// {"version":N,"record":{…}}; a record of a newer version than the program knows is
// reported, never overwritten.
package meta

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"muelle/internal/atomicfile"
)

const suffix = ".json"

// Dir is a folder of records of type T. Its methods are safe for concurrent use on
// different names; callers order those on one name.
type Dir[T any] struct {
	path    string
	version int
}

type envelope[T any] struct {
	Version int `json:"version"`
	Record  *T  `json:"record"`
}

// Packed is what a *T may be that is written in another form than it is used in.
type Packed[T any] interface {
	// Pack gives what is to be written, and the version that a program must know to read it.
	Pack() (*T, int)
	// Unpack makes of what Pack gave what it was given for.
	Unpack() error
}

// Open makes the folder (mode 0700) where it is missing.
func Open[T any](path string, version int) (*Dir[T], error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("open records: %w", err)
	}
	return &Dir[T]{path: path, version: version}, nil
}

// At names a folder of records without making it.
func At[T any](path string, version int) *Dir[T] { return &Dir[T]{path: path, version: version} }

// Save writes the record, mode 0600. Durable records survive a power loss; others
// only a crash of the program.
func (d *Dir[T]) Save(name string, v *T, durable bool) error {
	path, err := d.file(name)
	if err != nil {
		return err
	}
	e := envelope[T]{Version: d.version, Record: v}
	if p, ok := any(v).(Packed[T]); ok {
		e.Record, e.Version = p.Pack()
	}
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode record %s: %w", name, err)
	}
	if durable {
		return atomicfile.Write(path, data, 0o600)
	}
	return atomicfile.WriteNoSync(path, data, 0o600)
}

// Sweep removes what a killed writer left half written. Nobody may be saving.
func (d *Dir[T]) Sweep() error { return atomicfile.Sweep(d.path) }

// Load reads one record; errdefs.ErrNotFound where there is none.
func (d *Dir[T]) Load(name string) (*T, error) {
	path, err := d.file(name)
	if err != nil {
		return nil, err
	}
	return d.read(path)
}

// Delete removes a record; one that does not exist is no error.
func (d *Dir[T]) Delete(name string) error {
	path, err := d.file(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete record: %w", err)
	}
	return nil
}

// All reads every record by name. Unreadable ones are left in place and reported
// each by an error that names the file.
func (d *Dir[T]) All() (map[string]*T, []error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, []error{fmt.Errorf("list records: %w", err)}
	}
	records := make(map[string]*T, len(entries))
	var errs []error
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || strings.HasPrefix(name, ".") || !e.Type().IsRegular() {
			continue
		}
		v, err := d.read(filepath.Join(d.path, e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		records[name] = v
	}
	return records, errs
}

func (d *Dir[T]) file(name string) (string, error) {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("record name %q: %w", name, errdefs.ErrInvalidArgument)
	}
	return filepath.Join(d.path, name+suffix), nil
}

func (d *Dir[T]) read(path string) (*T, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read record %s: %w", path, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read record: %w", err)
	}
	var e envelope[T]
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("decode record %s: %w", path, err)
	}
	if e.Version > d.version {
		return nil, fmt.Errorf("record %s has version %d, this program knows %d at most: %w", path, e.Version, d.version, errdefs.ErrFailedPrecondition)
	}
	if e.Record == nil {
		return nil, fmt.Errorf("record %s is empty: %w", path, errdefs.ErrDataLoss)
	}
	if p, ok := any(e.Record).(Packed[T]); ok {
		if err := p.Unpack(); err != nil {
			return nil, fmt.Errorf("decode record %s: %w", path, err)
		}
	}
	return e.Record, nil
}
