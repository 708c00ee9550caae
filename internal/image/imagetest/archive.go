package imagetest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// File is one entry of an archive.
type File struct {
	Name     string
	Body     []byte
	Linkname string // makes it a symbolic link
}

// Pack makes an archive of files in their order.
func Pack(files ...File) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.Name, Mode: 0o644, Size: int64(len(f.Body))}
		if f.Linkname != "" {
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, f.Linkname, 0
		}
		must(w.WriteHeader(header))
		if f.Linkname == "" {
			_, err := w.Write(f.Body)
			must(err)
		}
	}
	must(w.Close())
	return buf.Bytes()
}

// manifestEntry is an element of manifest.json.
type manifestEntry struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Archive makes what `docker save` wrote before Docker 25: manifest.json, one
// configuration for each image and a folder with layer.tar for each layer.
func Archive(images ...Image) []byte {
	var files []File
	var entries []manifestEntry
	seen := map[string]bool{}
	for _, img := range images {
		blobs := img.blobs(false)
		entry := manifestEntry{Config: blobs.Config.Digest.Encoded() + ".json", RepoTags: img.Names}
		files = append(files, File{Name: entry.Config, Body: blobs.ByDigest[blobs.Config.Digest]})
		for _, layer := range blobs.Layers {
			name := layer.Digest.Encoded() + "/layer.tar"
			entry.Layers = append(entry.Layers, name)
			if !seen[name] {
				seen[name] = true
				files = append(files, File{Name: name, Body: blobs.ByDigest[layer.Digest]})
			}
		}
		entries = append(entries, entry)
	}
	return Pack(append(files, File{Name: "manifest.json", Body: marshal(entries)})...)
}

// LayoutArchive makes what `docker save` writes since Docker 25: an OCI layout with
// manifest.json beside it.
func LayoutArchive(images ...Image) []byte {
	blobs := Blobs{ByDigest: map[digest.Digest][]byte{}}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var entries []manifestEntry
	for _, img := range images {
		parts := img.blobs(false)
		maps.Copy(blobs.ByDigest, parts.ByDigest)
		entry := manifestEntry{Config: blobPath(parts.Config), RepoTags: img.Names}
		for _, layer := range parts.Layers {
			entry.Layers = append(entry.Layers, blobPath(layer))
		}
		entries = append(entries, entry)
		names := img.Names
		if len(names) == 0 {
			names = []string{""}
		}
		for _, name := range names {
			index.Manifests = append(index.Manifests, named(parts.Manifest, name))
		}
	}
	return Pack(append(blobs.files(),
		File{Name: "index.json", Body: marshal(index)},
		File{Name: "manifest.json", Body: marshal(entries)},
		File{Name: "oci-layout", Body: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
	)...)
}

func named(desc ocispec.Descriptor, name string) ocispec.Descriptor {
	if name == "" {
		return desc
	}
	ref, err := reference.ParseNormalizedNamed(name)
	must(err)
	desc.Annotations = map[string]string{"io.containerd.image.name": reference.TagNameOnly(ref).String()}
	return desc
}

func blobPath(desc ocispec.Descriptor) string { return "blobs/sha256/" + desc.Digest.Encoded() }

func (b Blobs) files() []File {
	var files []File
	for _, dgst := range slices.Sorted(maps.Keys(b.ByDigest)) {
		files = append(files, File{Name: "blobs/sha256/" + dgst.Encoded(), Body: b.ByDigest[dgst]})
	}
	return files
}

func marshal(v any) []byte {
	data, err := json.Marshal(v)
	must(err)
	return data
}

// Layout makes an OCI layout of the blobs whose index.json lists the descriptors.
func (b Blobs) Layout(manifests ...ocispec.Descriptor) []byte {
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	return Pack(append(b.files(),
		File{Name: "index.json", Body: marshal(index)},
		File{Name: "oci-layout", Body: []byte(`{"imageLayoutVersion":"1.0.0"}`)},
	)...)
}
