package image_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"muelle/internal/image/imagetest"
	"muelle/internal/remote"
)

// Indexes that list one another many times over: each is visited once, not as often
// as it is listed.
func TestLoadIndexBomb(t *testing.T) {
	e := open(t, remote.Options{})
	blobs := imagetest.Image{Layers: []imagetest.Layer{{"f": "x"}}}.Blobs()
	target := blobs.Manifest
	for range 3 {
		data, err := json.Marshal(ocispec.Index{
			MediaType: ocispec.MediaTypeImageIndex, Manifests: slices.Repeat([]ocispec.Descriptor{target}, 50),
		})
		if err != nil {
			t.Fatal(err)
		}
		target = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data))}
		blobs.ByDigest[target.Digest] = data
	}
	target.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/bomb:latest"}
	if err := e.Load(t.Context(), bytes.NewReader(blobs.Layout(target)), true, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Get(t.Context(), "bomb"); err != nil {
		t.Error(err)
	}
}

// What a descriptor claims of a document's size is not believed.
func TestLoadLargeDocument(t *testing.T) {
	for _, name := range []string{"manifest", "config"} {
		t.Run(name, func(t *testing.T) {
			e := open(t, remote.Options{})
			blobs := imagetest.Image{Layers: []imagetest.Layer{{"f": "x"}}}.Blobs()
			blobs.ByDigest = maps.Clone(blobs.ByDigest)
			add := func(data []byte, mediaType string) ocispec.Descriptor {
				desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: 100}
				blobs.ByDigest[desc.Digest] = data
				return desc
			}
			padding := bytes.Repeat([]byte(" "), 9<<20)
			manifest := blobs.ByDigest[blobs.Manifest.Digest]
			if name == "config" {
				config := add(slices.Concat(blobs.ByDigest[blobs.Config.Digest], padding), blobs.Config.MediaType)
				var m ocispec.Manifest
				if err := json.Unmarshal(manifest, &m); err != nil {
					t.Fatal(err)
				}
				m.Config = config
				manifest, _ = json.Marshal(m)
			} else {
				manifest = slices.Concat(manifest, padding)
			}
			index, _ := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{add(manifest, blobs.Manifest.MediaType)}})
			target := add(index, ocispec.MediaTypeImageIndex)
			var packed bytes.Buffer
			w := gzip.NewWriter(&packed)
			if _, err := w.Write(blobs.Layout(target)); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			err := e.Load(t.Context(), &packed, true, nil)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "too large") {
				t.Errorf("got %v", err)
			}
		})
	}
}
