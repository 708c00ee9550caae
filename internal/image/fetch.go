package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"
)

// ImportURL is Import of what an http or https server gives. It is this process that asks,
// through the proxy that its environment names; redirects are followed. Any size is taken,
// and the end of ctx ends it.
func (s *Service) ImportURL(ctx context.Context, o ImportOptions, address string, progress func(jsonstream.Message)) (digest.Digest, error) {
	u, err := parseURL(address)
	if err != nil {
		return "", err
	}
	// One of its own: nothing is kept open for the next import.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	defer transport.CloseIdleConnections()
	body, size, err := fetch(ctx, &http.Client{Transport: transport}, u)
	if err != nil {
		return "", err
	}
	defer body.Close()
	if o.Message == "" {
		o.Message = "Imported from " + u.Redacted()
	}
	progress(jsonstream.Message{Status: "Downloading from " + u.Redacted()})
	return s.Import(ctx, o, &download{Reader: body, progress: progress, size: size})
}

// parseURL reads a source: without a scheme it is of http, as Docker takes it.
func parseURL(address string) (*url.URL, error) {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	var parse *url.Error
	switch {
	case errors.As(err, &parse): // which repeats the URL, with its password
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid URL to import from: " + parse.Err.Error())
	case err != nil:
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid URL to import from: " + err.Error())
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid URL to import from: unsupported protocol scheme %q", u.Scheme))
	case u.Host == "":
		return nil, errdefs.ErrInvalidArgument.WithMessage("invalid URL to import from: no host in " + u.Redacted())
	}
	return u, nil
}

// mostOfRefusal is how much of what a server says beside an error is told.
const mostOfRefusal = 1024

// refusals are the classes of what servers answer.
var refusals = map[int]interface{ WithMessage(string) error }{
	http.StatusNotFound: errdefs.ErrNotFound, http.StatusBadRequest: errdefs.ErrInvalidArgument,
	http.StatusUnauthorized: errdefs.ErrUnauthenticated, http.StatusForbidden: errdefs.ErrPermissionDenied,
}

// fetch asks for a URL; size is below zero where the server does not tell it.
func fetch(ctx context.Context, client *http.Client, u *url.URL) (body io.ReadCloser, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, errdefs.ErrInvalidArgument.WithMessage(err.Error())
	}
	res, err := client.Do(req)
	if err != nil {
		var name *net.DNSError
		if errors.As(err, &name) && !name.IsTimeout {
			return nil, 0, errdefs.ErrNotFound.WithMessage(err.Error())
		}
		return nil, 0, err
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, res.ContentLength, nil
	}
	defer res.Body.Close()
	text := fmt.Sprintf("failed to GET %s with status %s", u.Redacted(), res.Status)
	if said, err := io.ReadAll(io.LimitReader(res.Body, mostOfRefusal)); err == nil && len(said) > 0 {
		text += ": " + printable(string(said))
	}
	if class := refusals[res.StatusCode]; class != nil {
		return nil, 0, class.WithMessage(text)
	}
	return nil, 0, errdefs.ErrUnknown.WithMessage(text)
}

// printable is a stranger's text for a terminal.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "")))
}

// pause between two lines of progress.
const pause = 100 * time.Millisecond

// download tells how much of a stream was read.
type download struct {
	io.Reader
	progress  func(jsonstream.Message)
	size, now int64
	told      time.Time
}

func (c *download) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.now += int64(n)
	if ended := errors.Is(err, io.EOF); ended || n > 0 && time.Since(c.told) >= pause {
		c.told = time.Now()
		c.progress(jsonstream.Message{Status: "Importing", Progress: &jsonstream.Progress{Current: c.now, Total: max(c.size, 0)}})
	}
	return n, err
}
