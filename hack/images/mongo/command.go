package main

import (
	"strings"
	"time"

	"go.etcd.io/bbolt"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// dispatch runs a command. Those before the check need no login, as in MongoDB.
func (ss *session) dispatch(db string, cmd bson.D) (bson.D, error) {
	name := cmd[0].Key
	switch strings.ToLower(name) {
	case "hello", "ismaster":
		return ss.hello(cmd), nil
	case "ping", "endsessions":
		return bson.D{}, nil
	case "buildinfo":
		return bson.D{
			{Key: "version", Value: "7.0.0"}, {Key: "gitVersion", Value: "muelle-standin"},
			{Key: "versionArray", Value: bson.A{int32(7), int32(0), int32(0), int32(0)}},
			{Key: "bits", Value: int32(64)}, {Key: "maxBsonObjectSize", Value: int32(16 << 20)},
		}, nil
	case "saslstart":
		return ss.saslStart(cmd)
	case "saslcontinue":
		return ss.saslContinue(cmd)
	case "logout":
		ss.authed, ss.user = !ss.server.store.auth, ""
		return bson.D{}, nil
	case "connectionstatus":
		return ss.connectionStatus(), nil
	}
	if !ss.authed {
		return nil, fail(13, "Unauthorized", "Command %s requires authentication", name)
	}
	if db == "" {
		return nil, fail(73, "InvalidNamespace", "Invalid database name: ''")
	}
	return ss.data(db, cmd)
}

func (ss *session) hello(cmd bson.D) bson.D {
	r := bson.D{
		{Key: "isWritablePrimary", Value: true}, {Key: "ismaster", Value: true}, {Key: "helloOk", Value: true},
		{Key: "maxBsonObjectSize", Value: int32(16 << 20)}, {Key: "maxMessageSizeBytes", Value: int32(maxMessage)},
		{Key: "maxWriteBatchSize", Value: int32(100_000)}, {Key: "localTime", Value: time.Now()},
		{Key: "logicalSessionTimeoutMinutes", Value: int32(30)}, {Key: "connectionId", Value: ss.id},
		{Key: "minWireVersion", Value: int32(0)}, {Key: "maxWireVersion", Value: int32(21)}, {Key: "readOnly", Value: false},
	}
	if get(cmd, "saslSupportedMechs") != nil {
		r = append(r, bson.E{Key: "saslSupportedMechs", Value: bson.A{mechanism}})
	}
	if first := document(get(cmd, "speculativeAuthenticate")); text(get(first, "mechanism")) == mechanism {
		// A failure is not told here: the client then starts over and is told there.
		if answer, err := ss.saslStart(first); err == nil {
			r = append(r, bson.E{Key: "speculativeAuthenticate", Value: answer})
		}
	}
	return r
}

func (ss *session) connectionStatus() bson.D {
	users := bson.A{}
	if ss.user != "" {
		users = append(users, bson.D{{Key: "user", Value: ss.user}, {Key: "db", Value: "admin"}})
	}
	return bson.D{{Key: "authInfo", Value: bson.D{
		{Key: "authenticatedUsers", Value: users}, {Key: "authenticatedUserRoles", Value: bson.A{}},
	}}}
}

// data runs the commands that read and write.
func (ss *session) data(db string, cmd bson.D) (bson.D, error) {
	name := cmd[0].Key
	coll := text(cmd[0].Value)
	st := ss.server.store
	switch strings.ToLower(name) {
	case "insert":
		return st.insert(db, coll, cmd)
	case "update":
		return st.update(db, coll, cmd)
	case "delete":
		return st.delete(db, coll, cmd)
	case "find":
		docs, err := st.query(db, coll, cmd)
		return ss.server.first(db+"."+coll, docs, get(cmd, "batchSize")), err
	case "count":
		docs, err := st.find(db, coll, document(get(cmd, "query")))
		return bson.D{{Key: "n", Value: int32(len(window(docs, nil, get(cmd, "skip"), get(cmd, "limit"))))}}, err
	case "aggregate":
		docs, err := st.aggregate(db, coll, array(get(cmd, "pipeline")))
		return ss.server.first(db+"."+coll, docs, get(document(get(cmd, "cursor")), "batchSize")), err
	case "getmore":
		return ss.server.more(db, cmd)
	case "killcursors":
		return ss.server.kill(cmd), nil
	case "listcollections":
		docs, err := st.listCollections(db, document(get(cmd, "filter")))
		return ss.server.first(db+".$cmd.listCollections", docs, nil), err
	case "listdatabases":
		return st.listDatabases()
	case "listindexes":
		return st.listIndexes(ss.server, db, coll)
	case "create":
		return bson.D{}, st.createCollection(db, coll)
	case "drop":
		return bson.D{{Key: "ns", Value: db + "." + coll}}, st.drop(db, coll)
	case "dropdatabase":
		return bson.D{{Key: "dropped", Value: db}}, st.dropDatabase(db)
	case "createuser":
		return bson.D{}, st.db.Update(func(tx *bbolt.Tx) error {
			return putUser(tx.Bucket(usersBucket), coll, text(get(cmd, "pwd")))
		})
	}
	return nil, fail(59, "CommandNotFound", "no such command: '%s'", name)
}
