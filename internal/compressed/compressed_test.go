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
	for name, tc := range map[string]struct{ in, want string }{
		"plain": {text, text}, "short": {"ab", "ab"}, "empty": {"", ""},
		"gzip": {gz.String(), text}, "zstd": {zs.String(), text}, "bzip2": {string(bz), text},
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
	if _, err := compressed.Open(strings.NewReader("\xfd7zXZ\x00 and more")); !errdefs.IsNotImplemented(err) {
		t.Errorf("xz: got %v", err)
	}
	if _, err := compressed.Open(strings.NewReader("\x1f\x8b\x08\x00")); !errdefs.IsInvalidArgument(err) {
		t.Errorf("half a gzip header: got %v", err)
	}
	broken := errors.New("broken pipe")
	if _, err := compressed.Open(io.MultiReader(strings.NewReader("ab"), failing{broken})); !errors.Is(err, broken) {
		t.Errorf("a reader that fails: got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
