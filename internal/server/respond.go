package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync"

	"github.com/moby/moby/api/types/jsonstream"
)

// writeJSON answers with a document.
func writeJSON(w http.ResponseWriter, code int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// noContent answers 204.
func noContent(w *reply) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// lines writes a stream of JSON documents, one a line, each sent at once. Safe for
// concurrent use: layers report together.
type lines struct {
	mu      sync.Mutex
	w       *reply
	encoder *json.Encoder
	err     error
}

func newLines(w *reply, contentType string) *lines {
	w.Header().Set("Content-Type", contentType)
	l := &lines{w: w, encoder: json.NewEncoder(w)}
	l.encoder.SetEscapeHTML(false)
	return l
}

// write sends a document. The first failure stays: the client has gone.
func (l *lines) write(v any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = l.encoder.Encode(v)
		l.w.flush()
	}
	return l.err
}

// message is a jsonstream.Message with the field that docker-py and clients before
// 1.48 read errors from.
type message struct {
	jsonstream.Message
	ErrorText string `json:"error,omitempty"`
}

// progress carries a jsonstream: statuses, and the error at the end when it came
// after the first of them.
type progress struct{ *lines }

func newProgress(w *reply) progress { return progress{newLines(w, "application/json")} }

// send is the callback given to services.
func (p progress) send(m jsonstream.Message) { _ = p.write(message{Message: m}) }

// end turns err into the stream's last line, or gives it back when nothing was
// sent yet and a status can still tell it.
func (p progress) end(err error) error {
	if err == nil {
		return nil
	}
	p.mu.Lock()
	begun := p.w.begun
	p.mu.Unlock()
	if !begun {
		return err
	}
	var e *jsonstream.Error
	if !errors.As(err, &e) {
		e = &jsonstream.Error{Message: err.Error()}
	}
	_ = p.write(message{Message: jsonstream.Message{Error: e}, ErrorText: e.Message})
	return nil
}
