package main

import (
	"context"
	"errors"
	"log"
	"net"
	"sync"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
)

type server struct {
	store *store
	reply atomic.Int32

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	lastID  int32
	cursors map[int64]*cursor
	lastCur int64
}

func newServer(st *store) *server {
	return &server{store: st, conns: map[net.Conn]struct{}{}, cursors: map[int64]*cursor{}}
}

// serve accepts until ctx ends, then closes every connection and waits for them.
func (s *server) serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() {
		l.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			c.Close()
		}
	})
	defer stop()
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.lastID++
		ss := &session{server: s, id: s.lastID, authed: !s.store.auth}
		s.mu.Unlock()
		wait.Go(func() {
			defer func() {
				c.Close()
				s.mu.Lock()
				delete(s.conns, c)
				s.mu.Unlock()
			}()
			ss.loop(c)
		})
		if ctx.Err() != nil {
			c.Close() // accepted while the others were being closed
		}
	}
}

// session is one connection.
type session struct {
	server *server
	id     int32
	authed bool
	user   string
	auth   *conversation
}

func (ss *session) loop(c net.Conn) {
	for {
		req, err := readRequest(c)
		if err != nil {
			if !errors.Is(err, errClosed) {
				log.Printf("conn%d: %v", ss.id, err)
			}
			return
		}
		answer := ss.run(req.db, req.command)
		if req.noReply {
			continue
		}
		if err := writeReply(c, ss.server.reply.Add(1), req, answer); err != nil {
			log.Printf("conn%d: %v", ss.id, err)
			return
		}
	}
}

// run answers one command: its result with ok:1, or an error document.
func (ss *session) run(db string, cmd bson.D) bson.D {
	if len(cmd) == 0 {
		return errorDocument(fail(9, "FailedToParse", "empty command"))
	}
	result, err := ss.dispatch(db, cmd)
	if err != nil {
		return errorDocument(err)
	}
	return append(result, bson.E{Key: "ok", Value: 1.0})
}
