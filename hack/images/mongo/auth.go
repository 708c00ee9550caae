package main

import (
	"github.com/xdg-go/scram"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// conversation is one SASL exchange (RFC 5802, RFC 7677) on a connection.
type conversation struct {
	scram *scram.ServerConversation
}

const mechanism = "SCRAM-SHA-256"

func (ss *session) saslStart(cmd bson.D) (bson.D, error) {
	if m := text(get(cmd, "mechanism")); m != mechanism {
		return nil, fail(334, "MechanismUnavailable", "Received authentication for mechanism %s which is not enabled", m)
	}
	srv, err := scram.SHA256.NewServer(ss.server.store.credentials)
	if err != nil {
		return nil, err
	}
	ss.auth = &conversation{srv.NewConversation()}
	return ss.saslStep(cmd)
}

func (ss *session) saslContinue(cmd bson.D) (bson.D, error) {
	if ss.auth == nil {
		return nil, fail(17, "ProtocolError", "No SASL session state found")
	}
	return ss.saslStep(cmd)
}

func (ss *session) saslStep(cmd bson.D) (bson.D, error) {
	payload, ok := get(cmd, "payload").(bson.Binary)
	if !ok {
		return nil, fail(14, "TypeMismatch", "payload must be binary")
	}
	c := ss.auth.scram
	// Clients without skipEmptyExchange send one more, empty step.
	if c.Done() && c.Valid() && len(payload.Data) == 0 {
		ss.auth = nil
		return saslReply(true, nil), nil
	}
	out, err := c.Step(string(payload.Data))
	if err != nil || c.Done() && !c.Valid() {
		ss.auth = nil
		return nil, fail(18, "AuthenticationFailed", "Authentication failed.")
	}
	if c.Done() {
		ss.authed, ss.user = true, c.Username()
	}
	return saslReply(c.Done(), []byte(out)), nil
}

func saslReply(done bool, payload []byte) bson.D {
	if payload == nil {
		payload = []byte{}
	}
	return bson.D{{Key: "conversationId", Value: int32(1)}, {Key: "done", Value: done}, {Key: "payload", Value: bson.Binary{Data: payload}}}
}
