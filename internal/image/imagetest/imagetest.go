// Package imagetest makes small images in memory from maps of files, as docker
// archives or as blobs for a registry, for tests that must not depend on an image
// from elsewhere.
package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Layer maps paths to contents: "bin/sh": "…" is a file of mode 0755, "tmp/" a
// directory, "link -> target" a symbolic link. Parent directories are made. Files
// belong to the user of the test, so that unpacking needs no root.
type Layer map[string]string

// Image is what an image is made of.
type Image struct {
	Names    []string // of the archive, such as "test:latest"
	Layers   []Layer
	Config   dockerspec.DockerOCIImageConfig
	Platform ocispec.Platform // the host's where empty
	Docker   bool             // Docker's media types instead of OCI's
	Created  time.Time        // 2024-01-02 where zero
}

// Static gives an image with one static program at /bin/NAME, and the directories
// that a container needs, read from the machine.
func Static(name, file string) (Image, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Image{}, err
	}
	layer := Layer{"bin/" + name: string(data), "tmp/": "", "proc/": "", "sys/": "", "dev/": "", "etc/": "", "root/": ""}
	return Image{Layers: []Layer{layer}}, nil
}

// Blobs is an image taken apart.
type Blobs struct {
	ByDigest map[digest.Digest][]byte
	Manifest ocispec.Descriptor
	Config   ocispec.Descriptor
	Layers   []ocispec.Descriptor
	DiffIDs  []digest.Digest
}

// Tar gives a layer as an uncompressed archive.
func (l Layer) Tar() []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	made := map[string]bool{".": true, "/": true}
	for _, name := range slices.Sorted(maps.Keys(l)) {
		l.add(w, name, made)
	}
	must(w.Close())
	return buf.Bytes()
}

func (l Layer) add(w *tar.Writer, name string, made map[string]bool) {
	header := &tar.Header{ModTime: time.Unix(1700000000, 0), Uid: os.Getuid(), Gid: os.Getgid(), Format: tar.FormatPAX}
	body := l[name]
	switch file, target, isLink := strings.Cut(name, " -> "); {
	case isLink:
		header.Typeflag, header.Name, header.Linkname, header.Mode = tar.TypeSymlink, file, target, 0o777
	case strings.HasSuffix(name, "/"):
		header.Typeflag, header.Name, header.Mode = tar.TypeDir, name, 0o755
		if name == "tmp/" {
			header.Mode = 0o1777
		}
		made[path.Clean(name)] = true
	default:
		header.Typeflag, header.Name, header.Mode, header.Size = tar.TypeReg, name, 0o755, int64(len(body))
	}
	l.addParents(w, path.Dir(path.Clean(header.Name)), made)
	must(w.WriteHeader(header))
	if header.Typeflag == tar.TypeReg {
		_, err := io.WriteString(w, body)
		must(err)
	}
}

func (l Layer) addParents(w *tar.Writer, dir string, made map[string]bool) {
	if made[dir] {
		return
	}
	l.addParents(w, path.Dir(dir), made)
	made[dir] = true
	must(w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: time.Unix(1700000000, 0),
		Uid: os.Getuid(), Gid: os.Getgid(), Format: tar.FormatPAX,
	}))
}

// Blobs takes the image apart; its layers are gzip-compressed.
func (i Image) Blobs() Blobs { return i.blobs(true) }

func (i Image) blobs(compress bool) Blobs {
	out := Blobs{ByDigest: map[digest.Digest][]byte{}}
	types := mediaTypes(i.Docker, compress)
	for _, layer := range i.Layers {
		plain := layer.Tar()
		out.DiffIDs = append(out.DiffIDs, digest.FromBytes(plain))
		data := plain
		if compress {
			data = gzipped(plain)
		}
		out.Layers = append(out.Layers, out.add(types.layer, data))
	}
	out.Config = out.add(types.config, i.config(out.DiffIDs))
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: types.manifest,
		Config: out.Config, Layers: append([]ocispec.Descriptor{}, out.Layers...),
	})
	must(err)
	out.Manifest = out.add(types.manifest, manifest)
	platform := i.platform()
	out.Manifest.Platform = &platform
	return out
}

type types struct{ manifest, config, layer string }

func mediaTypes(docker, compress bool) types {
	switch {
	case docker && compress:
		return types{
			"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json",
			"application/vnd.docker.image.rootfs.diff.tar.gzip",
		}
	case docker:
		return types{
			"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json",
			"application/vnd.docker.image.rootfs.diff.tar",
		}
	case compress:
		return types{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayerGzip}
	default:
		return types{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer}
	}
}

func (b *Blobs) add(mediaType string, data []byte) ocispec.Descriptor {
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	b.ByDigest[desc.Digest] = data
	return desc
}

func (i Image) platform() ocispec.Platform {
	if i.Platform.OS != "" {
		return i.Platform
	}
	return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

func (i Image) config(diffIDs []digest.Digest) []byte {
	created := i.Created
	if created.IsZero() {
		created = time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)
	}
	config := dockerspec.DockerOCIImage{Config: i.Config}
	config.Created = &created
	config.Platform = i.platform()
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: append([]digest.Digest{}, diffIDs...)}
	for range diffIDs {
		config.History = append(config.History, ocispec.History{Created: &created, CreatedBy: "imagetest"})
	}
	data, err := json.Marshal(config)
	must(err)
	return data
}

// Index gives one index over several images, with all their blobs, and its
// descriptor as Manifest.
func Index(images ...Image) Blobs {
	out := Blobs{ByDigest: map[digest.Digest][]byte{}}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, img := range images {
		blobs := img.Blobs()
		maps.Copy(out.ByDigest, blobs.ByDigest)
		index.Manifests = append(index.Manifests, blobs.Manifest)
	}
	data, err := json.Marshal(index)
	must(err)
	out.Manifest = out.add(ocispec.MediaTypeImageIndex, data)
	return out
}

func gzipped(data []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(data)
	must(err)
	must(w.Close())
	return buf.Bytes()
}

// must is for writes to memory, which cannot fail.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
