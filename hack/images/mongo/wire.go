package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Opcodes and flags of the wire protocol: MongoDB's specification "OP_MSG" and the
// legacy OP_QUERY, which drivers still use for their first hello.
const (
	opReply = 1
	opQuery = 2004
	opMsg   = 2013

	flagChecksum   = 1 << 0
	flagMoreToCome = 1 << 1
	replyAwait     = 1 << 3

	headerLen  = 16
	maxMessage = 48_000_000
)

var errClosed = errors.New("connection closed")

type request struct {
	id      uint32
	legacy  bool
	noReply bool
	db      string
	command bson.D
}

func readRequest(r io.Reader) (*request, error) {
	var header [headerLen]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, errClosed
	}
	length := binary.LittleEndian.Uint32(header[0:])
	op := binary.LittleEndian.Uint32(header[12:])
	if length < headerLen+5 || length > maxMessage {
		return nil, fmt.Errorf("message of %d bytes refused", length)
	}
	body := make([]byte, length-headerLen)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, errClosed
	}
	req := &request{id: binary.LittleEndian.Uint32(header[4:])}
	var err error
	switch op {
	case opMsg:
		err = req.parseMsg(body)
	case opQuery:
		err = req.parseQuery(body)
	default:
		err = fmt.Errorf("opcode %d is not supported", op)
	}
	return req, err
}

func (req *request) parseMsg(body []byte) error {
	flags := binary.LittleEndian.Uint32(body)
	req.noReply = flags&flagMoreToCome != 0
	body = body[4:]
	if flags&flagChecksum != 0 {
		if len(body) < 4 {
			return io.ErrUnexpectedEOF
		}
		body = body[:len(body)-4]
	}
	var sequences bson.D
	for len(body) > 0 {
		kind := body[0]
		section, rest, err := sized(body[1:])
		if err != nil {
			return err
		}
		body = rest
		switch kind {
		case 0:
			if err := bson.Unmarshal(section, &req.command); err != nil {
				return err
			}
		case 1:
			e, err := parseSequence(section[4:])
			if err != nil {
				return err
			}
			sequences = append(sequences, e)
		default:
			return fmt.Errorf("section of kind %d", kind)
		}
	}
	req.command = append(req.command, sequences...)
	req.db, _ = get(req.command, "$db").(string)
	return nil
}

// parseSequence reads a document sequence: a name and documents one after another.
func parseSequence(p []byte) (bson.E, error) {
	end := bytes.IndexByte(p, 0)
	if end < 0 {
		return bson.E{}, io.ErrUnexpectedEOF
	}
	name, p := string(p[:end]), p[end+1:]
	docs := bson.A{}
	for len(p) > 0 {
		raw, rest, err := sized(p)
		if err != nil {
			return bson.E{}, err
		}
		var d bson.D
		if err := bson.Unmarshal(raw, &d); err != nil {
			return bson.E{}, err
		}
		docs = append(docs, d)
		p = rest
	}
	return bson.E{Key: name, Value: docs}, nil
}

// sized cuts off a part that begins with its own length.
func sized(p []byte) (part, rest []byte, err error) {
	if len(p) < 5 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	n := binary.LittleEndian.Uint32(p)
	if n < 5 || uint64(n) > uint64(len(p)) {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return p[:n], p[n:], nil
}

func (req *request) parseQuery(body []byte) error {
	req.legacy = true
	end := bytes.IndexByte(body[4:], 0)
	if end < 0 || len(body) < 4+end+1+8 {
		return io.ErrUnexpectedEOF
	}
	collection := string(body[4 : 4+end])
	db, ok := strings.CutSuffix(collection, ".$cmd")
	if !ok {
		return fmt.Errorf("legacy query of %q: only commands are supported", collection)
	}
	req.db = db
	return bson.Unmarshal(body[4+end+1+8:], &req.command)
}

func writeReply(w io.Writer, id int32, req *request, answer bson.D) error {
	raw, err := bson.Marshal(answer)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	out := make([]byte, 4, headerLen+20+len(raw))
	out = le.AppendUint32(out, uint32(id))
	out = le.AppendUint32(out, req.id)
	if req.legacy {
		out = le.AppendUint32(out, opReply)
		out = le.AppendUint32(out, replyAwait)
		out = append(out, make([]byte, 12)...) // cursor id, starting from
		out = le.AppendUint32(out, 1)          // documents
	} else {
		out = le.AppendUint32(out, opMsg)
		out = append(out, 0, 0, 0, 0, 0) // flags, section of kind 0
	}
	out = append(out, raw...)
	le.PutUint32(out, uint32(len(out)))
	_, err = w.Write(out)
	return err
}
