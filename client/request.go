package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"muelle/api"
)

// request is one call. in is sent as JSON; stream is a raw body that cannot be
// sent twice.
type request struct {
	method string
	path   string
	query  url.Values
	header http.Header
	in     any
	stream io.Reader
	// atMost is the newest version of the API whose answer is wanted.
	atMost string
}

func (c *Client) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	res, err := c.do(ctx, request{method: method, path: path, query: query, in: in})
	if err != nil {
		return err
	}
	return decode(res, out)
}

func decode(res *http.Response, out any) error {
	defer func() { _ = res.Body.Close() }()
	var err error
	switch o := out.(type) {
	case nil:
	case *[]byte:
		*o, err = io.ReadAll(res.Body)
		return err
	case io.Writer:
		_, err = io.Copy(o, res.Body)
		return err
	default:
		if res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified {
			return nil
		}
		if err := json.NewDecoder(res.Body).Decode(out); err != nil {
			return fmt.Errorf("decode the daemon's answer: %w", err)
		}
	}
	// The rest is read so that the connection can be used again.
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	return err
}

// do sends r and returns an answer below 400.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	if r.stream != nil && !strings.HasPrefix(r.path, api.Prefix) {
		if _, err := c.Version(ctx); err != nil {
			return nil, err
		}
	}
	for {
		version, settled := c.currentVersion()
		req, err := c.newRequest(ctx, r, version)
		if err != nil {
			return nil, err
		}
		res, err := c.http.Do(req)
		if err != nil {
			return nil, c.transportError(ctx, err)
		}
		if res.StatusCode < http.StatusBadRequest {
			if r.atMost == "" {
				c.settle(version)
			}
			return res, nil
		}
		e := responseError(res)
		if settled || !c.downgrade(version, res, e) {
			return nil, e
		}
	}
}

func (c *Client) currentVersion() (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.version, c.settled
}

func (c *Client) settle(version string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version == version {
		c.settled = true
	}
}

// downgrade takes the server's own version after it refused ours, and says whether
// the request is worth repeating.
func (c *Client) downgrade(asked string, res *http.Response, e *Error) bool {
	// The answer to HEAD has no text.
	head := res.Request != nil && res.Request.Method == http.MethodHead && res.Header.Get("Api-Version") != ""
	if e.Status != http.StatusBadRequest || !head && !strings.Contains(e.Message, "is too new") {
		return false
	}
	max := res.Header.Get("Api-Version")
	if max == "" {
		_, after, ok := strings.Cut(e.Message, "Maximum supported API version is ")
		if !ok {
			return false
		}
		max = strings.Trim(after, " .\n")
	}
	if max == "" || max == asked || !versionLess(max, asked) || versionLess(max, api.MinVersion) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version, c.settled = max, true
	return true
}

func (c *Client) newRequest(ctx context.Context, r request, version string) (*http.Request, error) {
	body := r.stream
	if r.in != nil {
		b, err := json.Marshal(r.in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.url(r, version), body)
	if err != nil {
		return nil, err
	}
	for k, v := range c.headers {
		req.Header.Set(k, v)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if body != nil && req.Header.Get("Content-Type") == "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

func (c *Client) url(r request, version string) string {
	u := c.base
	if r.atMost != "" && versionLess(r.atMost, version) {
		version = r.atMost
	}
	if !strings.HasPrefix(r.path, api.Prefix) && r.path != "/_ping" {
		u += "/v" + version
	}
	u += (&url.URL{Path: r.path}).EscapedPath()
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	return u
}

func (c *Client) transportError(ctx context.Context, err error) error {
	if u := new(UnreachableError); errors.As(err, &u) {
		return u
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if u := new(url.Error); errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("error during connect: %w", err)
}

// versionLess compares "1.9" and "1.40" by number.
func versionLess(a, b string) bool {
	var a1, a2, b1, b2 int
	if _, err := fmt.Sscanf(a, "%d.%d", &a1, &a2); err != nil {
		return false
	}
	if _, err := fmt.Sscanf(b, "%d.%d", &b1, &b2); err != nil {
		return false
	}
	return a1 < b1 || a1 == b1 && a2 < b2
}
