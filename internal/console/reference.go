package console

import (
	"errors"
	"fmt"
	"strings"
)

// Ref is an image reference in its parts. Package distribution/reference does the
// same and more, but compiles its expressions at every start.
type Ref struct {
	Domain, Path, Tag, Digest string
}

// ParseRef parses and normalises a reference as Docker does: "a" is
// docker.io/library/a.
func ParseRef(s string) (Ref, error) {
	bad := errors.New("invalid reference format")
	if s == "" {
		return Ref{}, bad
	}
	if isHexID(s) {
		return Ref{}, fmt.Errorf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s)
	}
	// Before all else, as Docker: this is what a user most often gets wrong.
	if err := lowerCase(s); err != nil {
		return Ref{}, err
	}
	var r Ref
	name, digest, ok := strings.Cut(s, "@")
	if ok {
		alg, hex, found := strings.Cut(digest, ":")
		if !found || alg == "" || len(hex) < 32 || strings.Trim(hex, "0123456789abcdefABCDEF") != "" {
			return Ref{}, bad
		}
		r.Digest = digest
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, r.Tag = name[:i], name[i+1:]
		if !validTag(r.Tag) {
			return Ref{}, bad
		}
	}
	r.Domain, r.Path = splitDomain(name)
	if r.Domain == "docker.io" && !strings.Contains(r.Path, "/") {
		r.Path = "library/" + r.Path
	}
	if !validPath(r.Path) || !validDomain(r.Domain) {
		return Ref{}, bad
	}
	return r, nil
}

func lowerCase(s string) error {
	domain, path := splitDomain(s)
	if i := strings.IndexAny(path, ":@"); i >= 0 {
		path = path[:i]
	}
	if domain == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	if strings.ToLower(path) != path {
		return fmt.Errorf("invalid reference format: repository name (%s) must be lowercase", path)
	}
	return nil
}

// Familiar is the short form of the name, without tag and digest.
func (r Ref) Familiar() string {
	if r.Domain != "docker.io" {
		return r.Domain + "/" + r.Path
	}
	return strings.TrimPrefix(r.Path, "library/")
}

// String is the full form.
func (r Ref) String() string {
	s := r.Domain + "/" + r.Path
	return s + r.suffix()
}

// FamiliarString is the short form with tag and digest.
func (r Ref) FamiliarString() string { return r.Familiar() + r.suffix() }

func (r Ref) suffix() string {
	s := ""
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

func splitDomain(name string) (domain, path string) {
	first, rest, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(first, ".:") && first != "localhost" && strings.ToLower(first) == first {
		return "docker.io", name
	}
	if first == "index.docker.io" {
		first = "docker.io"
	}
	return first, rest
}

func validTag(t string) bool {
	if t == "" || len(t) > 128 || t[0] == '.' || t[0] == '-' {
		return false
	}
	for _, c := range []byte(t) {
		if !isAlnum(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// validPath checks components of lower-case letters and digits, separated inside by
// one dot, one or two underscores or any number of dashes.
func validPath(p string) bool {
	for part := range strings.SplitSeq(p, "/") {
		sep := ""
		for i := range len(part) {
			c := part[i]
			switch {
			case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
				sep = ""
			case i == 0 || c != '.' && c != '_' && c != '-':
				return false
			default:
				sep += string(c)
				if sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "" {
					return false
				}
			}
		}
		if part == "" || sep != "" {
			return false
		}
	}
	return true
}

func validDomain(d string) bool {
	if strings.HasPrefix(d, "[") {
		return strings.Contains(d, "]")
	}
	host, port, hasPort := strings.Cut(d, ":")
	if hasPort && (port == "" || strings.Trim(port, "0123456789") != "") {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !isAlnum(c) && c != '-' {
				return false
			}
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isHexID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
