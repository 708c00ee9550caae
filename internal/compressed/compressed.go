// Package compressed reads archives that somebody sends without saying how they are compressed.
package compressed

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/errdefs"
)

// Open reads gzip, zstd, bzip2, xz or what is not compressed, by the first bytes. An
// empty stream is not compressed. What cannot be read is errdefs.ErrInvalidArgument,
// xz where that program is missing errdefs.ErrNotImplemented.
func Open(r io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	start, err := buffered.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	switch {
	case len(start) >= 3 && string(start[:3]) == "BZh":
		return io.NopCloser(bzip2.NewReader(buffered)), nil
	case string(start) == "\xfd7zXZ\x00":
		return openXZ(buffered)
	}
	plain, err := compression.DecompressStream(buffered)
	if err != nil {
		return nil, errdefs.ErrInvalidArgument.WithMessage("read archive: " + err.Error())
	}
	return plain, nil
}
