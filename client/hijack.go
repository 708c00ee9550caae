package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Conn is a connection taken over from HTTP: the bytes of a container's streams.
// Without a terminal, stdout and stderr come in frames (moby's stdcopy format).
type Conn struct {
	net.Conn
	// Reader reads what the server sent, including what came with the headers.
	Reader *bufio.Reader
	// Header of the answer.
	Header http.Header
}

// Read reads through the buffer.
func (c *Conn) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// CloseWrite says that no more input comes.
func (c *Conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Hijack sends in as JSON and takes the connection over for proto ("tcp" for
// containers' streams, "h2c" for BuildKit).
func (c *Client) Hijack(ctx context.Context, path string, query url.Values, proto string, header http.Header, in any) (*Conn, error) {
	for {
		version, settled := c.currentVersion()
		conn, e, err := c.hijackOnce(ctx, request{method: http.MethodPost, path: path, query: query, header: header, in: in}, version, proto)
		if err != nil {
			return nil, err
		}
		if e == nil {
			c.settle(version)
			return conn, nil
		}
		if settled || !c.downgrade(version, e.res, e.Error) {
			return nil, e.Error
		}
	}
}

type refused struct {
	*Error
	res *http.Response
}

func (c *Client) hijackOnce(ctx context.Context, r request, version, proto string) (*Conn, *refused, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	fail := func(err error) (*Conn, *refused, error) {
		stop()
		_ = conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, nil, err
	}
	var body io.Reader
	if r.in != nil {
		b, err := json.Marshal(r.in)
		if err != nil {
			return fail(fmt.Errorf("encode request: %w", err))
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, c.url(r, version), body)
	if err != nil {
		return fail(err)
	}
	for k, v := range c.headers {
		req.Header.Set(k, v)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", proto)
	// One write: the server then needs one read.
	w := bufio.NewWriterSize(conn, 16<<10)
	if err := req.Write(w); err != nil {
		return fail(fmt.Errorf("error during connect: %w", err))
	}
	if err := w.Flush(); err != nil {
		return fail(fmt.Errorf("error during connect: %w", err))
	}
	br := bufio.NewReaderSize(conn, 32<<10)
	res, err := http.ReadResponse(br, req)
	if err != nil {
		return fail(fmt.Errorf("error during connect: %w", err))
	}
	if res.StatusCode != http.StatusSwitchingProtocols && res.StatusCode != http.StatusOK {
		e := responseError(res)
		stop()
		_ = conn.Close()
		return nil, &refused{Error: e, res: res}, nil
	}
	stop()
	return &Conn{Conn: conn, Reader: br, Header: res.Header}, nil, nil
}
