package cli

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/image"

	"muelle/internal/console"
)

const (
	imagesFormat       = `table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}`
	imagesDigestFormat = `table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{if .CreatedSince }}{{.CreatedSince}}{{else}}N/A{{end}}\t{{.Size}}`
	imagesRawFormat    = `repository: {{ .Repository }}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
`
	imagesRawDigestFormat = `repository: {{ .Repository }}
tag: {{.Tag}}
digest: {{.Digest}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
`
)

func imageFormat(source string, quiet, digest bool) string {
	switch source {
	case "table":
		switch {
		case quiet:
			return "{{.ID}}"
		case digest:
			return imagesDigestFormat
		}
		return imagesFormat
	case "raw":
		switch {
		case quiet:
			return "image_id: {{.ID}}"
		case digest:
			return imagesRawDigestFormat
		}
		return imagesRawFormat
	}
	if strings.HasPrefix(source, "table") && digest && !strings.Contains(source, "{{.Digest}}") {
		source += "\t{{.Digest}}"
	}
	return source
}

func imageHeaders() map[string]string {
	return map[string]string{
		"ID": "IMAGE ID", "Repository": "REPOSITORY", "Tag": "TAG", "Digest": "DIGEST", "CreatedSince": titleCreated,
		"CreatedAt": "CREATED AT", "Size": titleSize, "Containers": "CONTAINERS", "VirtualSize": titleSize,
		"SharedSize": "SHARED SIZE", "UniqueSize": "UNIQUE SIZE",
	}
}

type imageRow struct {
	trunc             bool
	i                 image.Summary
	repo, tag, digest string
}

func (r *imageRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// ID is the image's id.
func (r *imageRow) ID() string { return shorten(r.i.ID, r.trunc) }

// Repository is the name without tag.
func (r *imageRow) Repository() string { return r.repo }

// Tag is the tag.
func (r *imageRow) Tag() string { return r.tag }

// Digest is the manifest's.
func (r *imageRow) Digest() string { return r.digest }

// CreatedSince is the age.
func (r *imageRow) CreatedSince() string {
	t := time.Unix(r.i.Created, 0)
	if t.IsZero() {
		return ""
	}
	return console.HumanAge(t)
}

// CreatedAt is the time of creation.
func (r *imageRow) CreatedAt() string { return time.Unix(r.i.Created, 0).String() }

// Size is the image's size.
func (r *imageRow) Size() string { return size3(r.i.Size) }

// Containers counts those that use the image.
func (r *imageRow) Containers() string {
	if r.i.Containers == -1 {
		return "N/A"
	}
	return strconv.FormatInt(r.i.Containers, 10)
}

// VirtualSize is the size, by its old name.
func (r *imageRow) VirtualSize() string { return size4(r.i.Size) }

// SharedSize is what other images share.
func (r *imageRow) SharedSize() string {
	if r.i.SharedSize == -1 {
		return "N/A"
	}
	return size4(r.i.SharedSize)
}

// UniqueSize is the rest.
func (r *imageRow) UniqueSize() string {
	if r.i.Size == -1 || r.i.SharedSize == -1 {
		return "N/A"
	}
	return size4(r.i.Size - r.i.SharedSize)
}

func dangling(i image.Summary) bool {
	if len(i.RepoTags) == 0 && len(i.RepoDigests) == 0 {
		return true
	}
	return len(i.RepoTags) == 1 && i.RepoTags[0] == "<none>:<none>" && len(i.RepoDigests) == 1 && i.RepoDigests[0] == "<none>@<none>"
}

// imageRows makes a row per tag, per digest where those are shown, and one for what
// has neither.
func imageRows(all []image.Summary, trunc, digests, digestColumn bool) []any {
	var out []any
	for _, i := range all {
		if dangling(i) {
			out = append(out, &imageRow{trunc, i, "<none>", "<none>", "<none>"})
			continue
		}
		out = append(out, rowsOfImage(i, trunc, digests, digests || digestColumn)...)
	}
	return out
}

func rowsOfImage(i image.Summary, trunc, perDigest, need bool) []any {
	var out []any
	add := func(repo, tag, digest string) { out = append(out, &imageRow{trunc, i, repo, tag, digest}) }
	tags, digests := map[string][]string{}, map[string][]string{}
	var order []string
	note := func(m map[string][]string, repo, v string) {
		if !slices.Contains(order, repo) {
			order = append(order, repo)
		}
		m[repo] = append(m[repo], v)
	}
	for _, s := range i.RepoTags {
		if r, err := console.ParseRef(s); err == nil && r.Tag != "" {
			note(tags, r.Familiar(), r.Tag)
		}
	}
	for _, s := range i.RepoDigests {
		if r, err := console.ParseRef(s); err == nil && r.Digest != "" {
			note(digests, r.Familiar(), r.Digest)
		}
	}
	for _, repo := range order {
		for _, tag := range tags[repo] {
			if !need || len(digests[repo]) == 0 {
				add(repo, tag, "<none>")
				continue
			}
			for _, d := range digests[repo] {
				add(repo, tag, d)
			}
		}
	}
	for _, repo := range order {
		if len(tags[repo]) > 0 {
			continue
		}
		if !perDigest {
			add(repo, "<none>", "")
			continue
		}
		for _, d := range digests[repo] {
			add(repo, "<none>", d)
		}
	}
	return out
}

const (
	historyFormat    = `table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`
	historyRawFormat = `table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}`
)

type historyRow struct {
	trunc, human bool
	h            image.HistoryResponseItem
}

func historyHeaders() map[string]string {
	return map[string]string{"ID": "IMAGE", "CreatedSince": titleCreated, "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY", "Size": titleSize, "Comment": "COMMENT"}
}

func (r *historyRow) MarshalJSON() ([]byte, error) { return console.MarshalRow(r) }

// ID is the image's id, or <missing>.
func (r *historyRow) ID() string { return shorten(r.h.ID, r.trunc) }

// CreatedAt is the step's time.
func (r *historyRow) CreatedAt() string { return time.Unix(r.h.Created, 0).Format(time.RFC3339) }

// CreatedSince is the step's age.
func (r *historyRow) CreatedSince() string {
	if !r.human {
		return r.CreatedAt()
	}
	// Times before 2000 come from reproducible builds and mean nothing.
	if r.h.Created <= 946684800 {
		return "N/A"
	}
	return ago(r.h.Created)
}

// CreatedBy is the step's command.
func (r *historyRow) CreatedBy() string {
	s := strings.ReplaceAll(r.h.CreatedBy, "\t", " ")
	if r.trunc {
		return console.Ellipsis(s, 45)
	}
	return s
}

// Size is what the step added.
func (r *historyRow) Size() string {
	if r.human {
		return size3(r.h.Size)
	}
	return strconv.FormatInt(r.h.Size, 10)
}

// Comment is the step's comment.
func (r *historyRow) Comment() string { return r.h.Comment }
