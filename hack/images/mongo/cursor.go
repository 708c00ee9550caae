package main

import (
	"go.mongodb.org/mongo-driver/v2/bson"
)

// cursor holds the documents of a query that were not fetched yet.
type cursor struct {
	ns   string
	docs []bson.D
}

const (
	firstBatch = 101 // MongoDB's default
	batchBytes = 16 << 20
	maxCursors = 1000
)

// first answers a query: the first batch, and a cursor if there is more.
func (s *server) first(ns string, docs []bson.D, size any) bson.D {
	n := firstBatch
	if f, ok := number(size); ok {
		n = int(f)
	}
	batch, rest := cut(docs, n)
	var id int64
	if len(rest) > 0 {
		s.mu.Lock()
		s.lastCur++
		id = s.lastCur
		s.cursors[id] = &cursor{ns, rest}
		delete(s.cursors, id-maxCursors) // forgotten ones must not fill the memory
		s.mu.Unlock()
	}
	return bson.D{{Key: "cursor", Value: bson.D{{Key: "firstBatch", Value: batch}, {Key: "id", Value: id}, {Key: "ns", Value: ns}}}}
}

// more continues a cursor.
func (s *server) more(db string, cmd bson.D) (bson.D, error) {
	id, _ := cmd[0].Value.(int64)
	ns := db + "." + text(get(cmd, "collection"))
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cursors[id]
	if c == nil || c.ns != ns {
		return nil, fail(43, "CursorNotFound", "cursor id %d not found", id)
	}
	n := len(c.docs)
	if f, ok := number(get(cmd, "batchSize")); ok && f > 0 {
		n = int(f)
	}
	var batch bson.A
	batch, c.docs = cut(c.docs, n)
	if len(c.docs) == 0 {
		delete(s.cursors, id)
		id = 0
	}
	return bson.D{{Key: "cursor", Value: bson.D{{Key: "nextBatch", Value: batch}, {Key: "id", Value: id}, {Key: "ns", Value: ns}}}}, nil
}

func (s *server) kill(cmd bson.D) bson.D {
	s.mu.Lock()
	defer s.mu.Unlock()
	killed, missing := bson.A{}, bson.A{}
	for _, v := range array(get(cmd, "cursors")) {
		id, _ := v.(int64)
		if s.cursors[id] == nil {
			missing = append(missing, id)
			continue
		}
		delete(s.cursors, id)
		killed = append(killed, id)
	}
	return bson.D{{Key: "cursorsKilled", Value: killed}, {Key: "cursorsNotFound", Value: missing}, {Key: "cursorsAlive", Value: bson.A{}}, {Key: "cursorsUnknown", Value: bson.A{}}}
}

// cut takes at most n documents of at most batchBytes together, but one at least
// where any is asked for.
func cut(docs []bson.D, n int) (batch bson.A, rest []bson.D) {
	batch = bson.A{}
	size := 0
	for len(docs) > 0 && len(batch) < n {
		raw, err := bson.Marshal(docs[0])
		if err == nil {
			size += len(raw)
		}
		if size > batchBytes && len(batch) > 0 {
			break
		}
		batch = append(batch, docs[0])
		docs = docs[1:]
	}
	return batch, docs
}
