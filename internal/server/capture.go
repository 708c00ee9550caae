package server

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"muelle/api"
	"muelle/internal/network"
)

// lastWords is how long a client that does not read is waited for at the end.
const lastWords = 3 * time.Second

// containerCapture streams packets until the container ends, the client goes, or, with
// until=eof, the request's body ends; the summary follows in the trailers.
func (s *Server) containerCapture(w *reply, r *request) error {
	q := r.URL.Query()
	o := network.CaptureOptions{Interface: q.Get("interface"), Filter: q.Get("filter"), Host: boolOf(q, "host")}
	for key, to := range map[string]*int{"snaplen": &o.SnapLen, "count": &o.Count} {
		n, err := intOf(q, key)
		if err != nil {
			return err
		}
		if n != nil {
			if *n < 0 {
				return badRequest("invalid value for %s: %d is less than 0", key, *n)
			}
			*to = *n
		}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	rc := http.NewResponseController(w.ResponseWriter)
	if q.Get("until") == "eof" {
		// The answer begins before the request has ended.
		if err := rc.EnableFullDuplex(); err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(io.Discard, r.Body) // its end is what matters
			cancel()
		}()
	}
	defer context.AfterFunc(ctx, func() { _ = rc.SetWriteDeadline(time.Now().Add(lastWords)) })()
	sum, err := s.o.Containers.Capture(ctx, r.name, o, func(names map[netip.Addr]string) io.Writer {
		h := w.Header()
		h.Set("Content-Type", api.CaptureMedia)
		h.Set("Trailer", api.CapturePackets+", "+api.CaptureDropped)
		if b, err := json.Marshal(names); err == nil && len(b) < 256<<10 {
			h.Set(api.CaptureNames, string(b))
		}
		w.WriteHeader(http.StatusOK)
		w.flush()
		return flushing{w}
	})
	if w.begun {
		w.Header().Set(api.CapturePackets, strconv.Itoa(sum.Packets))
		w.Header().Set(api.CaptureDropped, strconv.Itoa(sum.Dropped))
	}
	return err
}

// flushing sends at once what is written.
type flushing struct{ w *reply }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	f.w.flush()
	return n, err
}
