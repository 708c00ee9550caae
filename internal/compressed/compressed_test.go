package compressed_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"

	"muelle/internal/compressed"
)

func TestOpen(t *testing.T) {
	const text = "some files"
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	g.Write([]byte(text))
	g.Close()
	z, err := zstd.NewWriter(&zs)
	if err != nil {
		t.Fatal(err)
	}
	z.Write([]byte(text))
	z.Close()
	// printf 'some files' | bzip2 | xxd -p
	bz, err := hex.DecodeString("425a68393141592653599e63baa700000411804000032688002000310c082069ea6602e3dd382ee48a70a1213cc7754e")
	if err != nil {
		t.Fatal(err)
	}
	// printf 'some files' | xz | xxd -p
	xz, err := hex.DecodeString("fd377a585a000004e6d6b4460200210116000000742fe5a3010009736f6d652066696c657300000074f4b7b70d15766c0001220a151ae1671fb6f37d010000000004595a")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ in, want string }{
		"plain": {text, text}, "short": {"ab", "ab"}, "empty": {"", ""},
		"gzip": {gz.String(), text}, "zstd": {zs.String(), text}, "bzip2": {string(bz), text}, "xz": {string(xz), text},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := compressed.Open(strings.NewReader(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || string(got) != tc.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	if err := drain(strings.NewReader(xzStart + " and more")); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "xz:") {
		t.Errorf("xz, damaged: got %v", err)
	}
	if _, err := compressed.Open(strings.NewReader("\x1f\x8b\x08\x00")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("half a gzip header: got %v", err)
	}
	broken := errors.New("broken pipe")
	if err := drain(io.MultiReader(strings.NewReader(xzStart), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("xz of a reader that fails: got %v", err)
	}
	if _, err := compressed.Open(io.MultiReader(strings.NewReader("ab"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: got %v", err)
	}
}

const xzStart = "\xfd7zXZ\x00"

func drain(r io.Reader) error {
	plain, err := compressed.Open(r)
	if err != nil {
		return err
	}
	defer plain.Close()
	_, err = io.Copy(io.Discard, plain)
	return err
}

// A header that asks for 1.5 GiB of memory is refused, and a process whose reader or
// sender stops in the middle ends.
func TestXZ(t *testing.T) {
	// The first block's header of `xz --lzma2=dict=1536MiB`: its dictionary is 0x25.
	large, err := hex.DecodeString("fd377a585a000004e6d6b44602002101250000003b787b41")
	if err != nil {
		t.Fatal(err)
	}
	if err := drain(bytes.NewReader(large)); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "limit") {
		t.Errorf("a dictionary of 1.5 GiB: got %v", err)
	}
	sender, silent := io.Pipe()
	defer silent.Close()
	go silent.Write([]byte(xzStart))
	plain, err := compressed.Open(sender)
	if err != nil {
		t.Fatal(err)
	}
	if err := plain.Close(); err != nil {
		t.Error(err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := compressed.Open(strings.NewReader(xzStart)); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "xz-utils") {
		t.Errorf("without the program: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
