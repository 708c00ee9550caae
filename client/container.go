package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/moby/moby/api/types/container"

	"muelle/api"
)

// Filters are Docker's: values by key.
type Filters map[string][]string

// Add appends a value and returns f, made if it was nil.
func (f Filters) Add(key string, values ...string) Filters {
	if f == nil {
		f = Filters{}
	}
	f[key] = append(f[key], values...)
	return f
}

func (f Filters) set(q url.Values) {
	if len(f) == 0 {
		return
	}
	m := map[string]map[string]bool{}
	for k, vs := range f {
		m[k] = map[string]bool{}
		for _, v := range vs {
			m[k][v] = true
		}
	}
	// A map of maps of strings and booleans always encodes.
	b, _ := json.Marshal(m)
	q.Set("filters", string(b))
}

func values(pairs ...string) url.Values {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	return q
}

func flag(on bool) string {
	if on {
		return "1"
	}
	return ""
}

// Containers are the calls below /containers.
type Containers struct{ c *Client }

// ListOptions restrict a list of containers.
type ListOptions struct {
	All, Size bool
	Limit     int
	Filters   Filters
}

// List lists containers.
func (s Containers) List(ctx context.Context, o ListOptions) ([]container.Summary, error) {
	q := values("all", flag(o.All), "size", flag(o.Size))
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	o.Filters.set(q)
	var out []container.Summary
	err := s.c.Get(ctx, "/containers/json", q, &out)
	return out, err
}

// Inspect returns everything known of a container.
func (s Containers) Inspect(ctx context.Context, ref string) (container.InspectResponse, error) {
	var out container.InspectResponse
	err := s.c.Get(ctx, "/containers/"+ref+"/json", nil, &out)
	return out, err
}

// InspectRaw returns the daemon's own JSON, in the form before 1.52: that version
// left out fields which scripts ask for (NetworkSettings.IPAddress).
func (s Containers) InspectRaw(ctx context.Context, ref string, size bool) ([]byte, error) {
	res, err := s.c.do(ctx, request{method: http.MethodGet, path: "/containers/" + ref + "/json", query: values("size", flag(size)), atMost: "1.51"})
	if err != nil {
		return nil, err
	}
	var out []byte
	err = decode(res, &out)
	return out, err
}

// Start starts a container; starting a started one is no error.
func (s Containers) Start(ctx context.Context, ref string) error {
	return s.c.Post(ctx, "/containers/"+ref+"/start", nil, nil, nil)
}

// StopOptions override the container's own signal and seconds.
type StopOptions struct {
	Signal  string
	Timeout *int
}

func (o StopOptions) query() url.Values {
	q := values("signal", o.Signal)
	if o.Timeout != nil {
		q.Set("t", strconv.Itoa(*o.Timeout))
	}
	return q
}

// Stop stops a container.
func (s Containers) Stop(ctx context.Context, ref string, o StopOptions) error {
	return s.c.Post(ctx, "/containers/"+ref+"/stop", o.query(), nil, nil)
}

// Restart stops and starts a container.
func (s Containers) Restart(ctx context.Context, ref string, o StopOptions) error {
	return s.c.Post(ctx, "/containers/"+ref+"/restart", o.query(), nil, nil)
}

// Kill sends a signal, KILL if empty.
func (s Containers) Kill(ctx context.Context, ref, signal string) error {
	return s.c.Post(ctx, "/containers/"+ref+"/kill", values("signal", signal), nil, nil)
}

// Pause freezes a container.
func (s Containers) Pause(ctx context.Context, ref string) error {
	return s.c.Post(ctx, "/containers/"+ref+"/pause", nil, nil, nil)
}

// Unpause thaws it.
func (s Containers) Unpause(ctx context.Context, ref string) error {
	return s.c.Post(ctx, "/containers/"+ref+"/unpause", nil, nil, nil)
}

// Rename gives a container another name.
func (s Containers) Rename(ctx context.Context, ref, name string) error {
	return s.c.Post(ctx, "/containers/"+ref+"/rename", values("name", name), nil, nil)
}

// Update changes limits and restart policy.
func (s Containers) Update(ctx context.Context, ref string, u container.UpdateConfig) (container.UpdateResponse, error) {
	var out container.UpdateResponse
	err := s.c.Post(ctx, "/containers/"+ref+"/update", nil, u, &out)
	return out, err
}

// Lookups streams the last lookups of a container, api.DNSQuery values, and with
// follow those that come, until it ends.
func (s Containers) Lookups(ctx context.Context, ref string, follow bool) (io.ReadCloser, error) {
	return s.c.Stream(ctx, http.MethodGet, api.Prefix+"/containers/"+ref+"/dns", values("follow", flag(follow)), nil, nil)
}

// Capture is a capture that goes on. Packets is a file of the classic pcap format; after
// its end Summary has what there was. Stop, which may be called several times, ends it.
type Capture struct {
	Packets io.ReadCloser
	Names   map[string]string // of containers, by address
	Stop    func()
	res     *http.Response
}

// Summary reads the trailers.
func (c *Capture) Summary() (s api.CaptureSummary, err error) {
	if s.Packets, err = strconv.Atoi(c.res.Trailer.Get(api.CapturePackets)); err == nil {
		s.Dropped, err = strconv.Atoi(c.res.Trailer.Get(api.CaptureDropped))
	}
	if err != nil {
		return s, errors.New("the daemon's answer ended too early")
	}
	return s, nil
}

// Capture begins to capture a container's packets; see api.CaptureSummary for the query.
// Packets go on until Stop or the container's end.
func (s Containers) Capture(ctx context.Context, ref string, query url.Values) (*Capture, error) {
	query.Set("until", "eof")
	body, stop := io.Pipe()
	res, err := s.c.do(ctx, request{method: http.MethodPost, path: api.Prefix + "/containers/" + ref + "/capture", query: query, stream: body})
	if err != nil {
		_ = stop.Close()
		return nil, err
	}
	c := &Capture{Packets: res.Body, Stop: func() { _ = stop.Close() }, res: res}
	if names := res.Header.Get(api.CaptureNames); names != "" {
		if err := json.Unmarshal([]byte(names), &c.Names); err != nil {
			c.Stop()
			return nil, errors.Join(fmt.Errorf("decode the daemon's answer: %w", err), res.Body.Close())
		}
	}
	return c, nil
}

// KernelRaw reads what the kernel says of a running container: an api.Kernel.
func (s Containers) KernelRaw(ctx context.Context, ref string) ([]byte, error) {
	res, err := s.c.do(ctx, request{method: http.MethodGet, path: api.Prefix + "/containers/" + ref + "/kernel"})
	if err != nil {
		return nil, err
	}
	var out []byte
	err = decode(res, &out)
	return out, err
}

// UpdatePorts publishes ports of a container and takes others back.
func (s Containers) UpdatePorts(ctx context.Context, ref string, u api.PortsUpdate) (api.PortsUpdateResponse, error) {
	var out api.PortsUpdateResponse
	err := s.c.Post(ctx, api.Prefix+"/containers/"+ref+"/ports", nil, u, &out)
	return out, err
}

// RemoveOptions of a container.
type RemoveOptions struct{ Force, Volumes, Link bool }

// Remove removes a container.
func (s Containers) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	return s.c.Delete(ctx, "/containers/"+ref, values("force", flag(o.Force), "v", flag(o.Volumes), "link", flag(o.Link)), nil)
}

// Prune removes stopped containers.
func (s Containers) Prune(ctx context.Context, f Filters) (container.PruneReport, error) {
	q := url.Values{}
	f.set(q)
	var out container.PruneReport
	err := s.c.Post(ctx, "/containers/prune", q, nil, &out)
	return out, err
}

// Wait asks for the end of a container. When it returns, the daemon has
// registered the wait; the function it returns blocks until the condition holds.
func (s Containers) Wait(ctx context.Context, ref string, cond container.WaitCondition) (func() (container.WaitResponse, error), error) {
	res, err := s.c.do(ctx, request{method: http.MethodPost, path: "/containers/" + ref + "/wait", query: values("condition", string(cond))})
	if err != nil {
		return nil, err
	}
	return func() (container.WaitResponse, error) {
		var out container.WaitResponse
		err := decode(res, &out)
		return out, err
	}, nil
}

// LogOptions select log lines; Since and Until are Unix times or RFC 3339.
type LogOptions struct {
	Stdout, Stderr, Follow, Timestamps, Details bool
	Since, Until, Tail                          string
}

// Logs streams a container's output, framed unless it has a terminal.
func (s Containers) Logs(ctx context.Context, ref string, o LogOptions) (io.ReadCloser, error) {
	q := values("stdout", flag(o.Stdout), "stderr", flag(o.Stderr), "follow", flag(o.Follow), "timestamps", flag(o.Timestamps),
		"details", flag(o.Details), "since", o.Since, "until", o.Until, "tail", o.Tail)
	return s.c.Stream(ctx, http.MethodGet, "/containers/"+ref+"/logs", q, nil, nil)
}

// AttachOptions choose streams.
type AttachOptions struct {
	Stdin, Stdout, Stderr, Stream, Logs bool
	DetachKeys                          string
}

// Attach takes over a container's streams.
func (s Containers) Attach(ctx context.Context, ref string, o AttachOptions) (*Conn, error) {
	q := values("stdin", flag(o.Stdin), "stdout", flag(o.Stdout), "stderr", flag(o.Stderr), "stream", flag(o.Stream),
		"logs", flag(o.Logs), "detachKeys", o.DetachKeys)
	return s.c.Hijack(ctx, "/containers/"+ref+"/attach", q, "tcp", nil, nil)
}

// Resize sets a container's terminal size.
func (s Containers) Resize(ctx context.Context, ref string, width, height uint) error {
	return s.c.Post(ctx, "/containers/"+ref+"/resize", size(width, height), nil, nil)
}

func size(width, height uint) url.Values {
	return values("w", strconv.FormatUint(uint64(width), 10), "h", strconv.FormatUint(uint64(height), 10))
}

// Top lists a container's processes.
func (s Containers) Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error) {
	var out container.TopResponse
	err := s.c.Get(ctx, "/containers/"+ref+"/top", values("ps_args", psArgs), &out)
	return out, err
}

// Stats streams readings, or gives one.
func (s Containers) Stats(ctx context.Context, ref string, stream bool) (io.ReadCloser, error) {
	q := values("stream", "0")
	if stream {
		q.Set("stream", "1")
	}
	return s.c.Stream(ctx, http.MethodGet, "/containers/"+ref+"/stats", q, nil, nil)
}

// Diff lists what changed in a container's file system.
func (s Containers) Diff(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	var out []container.FilesystemChange
	err := s.c.Get(ctx, "/containers/"+ref+"/changes", nil, &out)
	return out, err
}

// Export streams a container's file system as a tar archive.
func (s Containers) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	return s.c.Stream(ctx, http.MethodGet, "/containers/"+ref+"/export", nil, nil, nil)
}

// CommitOptions of an image made from a container.
type CommitOptions struct {
	Repo, Tag, Comment, Author string
	Changes                    []string
	Pause                      bool
	Config                     *container.Config
}

// Commit makes an image of a container.
func (s Containers) Commit(ctx context.Context, ref string, o CommitOptions) (string, error) {
	q := values("container", ref, "repo", o.Repo, "tag", o.Tag, "comment", o.Comment, "author", o.Author)
	for _, c := range o.Changes {
		q.Add("changes", c)
	}
	if !o.Pause {
		q.Set("pause", "0")
	}
	var out struct {
		ID string `json:"Id"`
	}
	err := s.c.Post(ctx, "/commit", q, o.Config, &out)
	return out.ID, err
}

// StatPath says what a path in a container is.
func (s Containers) StatPath(ctx context.Context, ref, path string) (container.PathStat, error) {
	res, err := s.c.do(ctx, request{method: http.MethodHead, path: "/containers/" + ref + "/archive", query: values("path", path)})
	if err != nil {
		return container.PathStat{}, err
	}
	_ = res.Body.Close()
	return pathStat(res.Header)
}

// CopyFrom streams a path of a container as a tar archive.
func (s Containers) CopyFrom(ctx context.Context, ref, path string) (io.ReadCloser, container.PathStat, error) {
	res, err := s.c.do(ctx, request{method: http.MethodGet, path: "/containers/" + ref + "/archive", query: values("path", path)})
	if err != nil {
		return nil, container.PathStat{}, err
	}
	st, err := pathStat(res.Header)
	if err != nil {
		_ = res.Body.Close()
		return nil, st, err
	}
	return res.Body, st, nil
}

// CopyTo unpacks a tar archive in a directory of a container.
func (s Containers) CopyTo(ctx context.Context, ref, path string, overwriteDirWithFile, copyUIDGID bool, archive io.Reader) error {
	q := values("path", path, "copyUIDGID", map[bool]string{true: "true"}[copyUIDGID])
	if !overwriteDirWithFile {
		q.Set("noOverwriteDirNonDir", "true")
	}
	body, err := s.c.Stream(ctx, http.MethodPut, "/containers/"+ref+"/archive", q, http.Header{"Content-Type": {"application/x-tar"}}, archive)
	if err != nil {
		return err
	}
	return body.Close()
}

func pathStat(h http.Header) (container.PathStat, error) {
	var st container.PathStat
	b, err := base64.StdEncoding.DecodeString(h.Get("X-Docker-Container-Path-Stat"))
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err != nil {
		return st, fmt.Errorf("decode the path's description: %w", err)
	}
	return st, nil
}
