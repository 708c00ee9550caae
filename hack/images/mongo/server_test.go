package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// start serves a data folder and returns the address; stop ends it.
func start(t *testing.T, dir, user, password string) (addr string, stop func()) {
	t.Helper()
	st, err := openStore(dir, user, password)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- newServer(st).serve(ctx, l) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		st.close()
	}
	return l.Addr().String(), stop
}

func connect(t *testing.T, uri string) *mongo.Client {
	t.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(uri).SetServerSelectionTimeout(5 * time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Disconnect(context.Background()) })
	return c
}

func TestDriver(t *testing.T) {
	dir := t.TempDir()
	addr, stop := start(t, dir, "root", "s3cret")
	ctx := t.Context()
	db := connect(t, "mongodb://root:s3cret@"+addr+"/?authSource=admin").Database("shop")
	items := db.Collection("items")
	var docs []any
	for i := range 250 {
		docs = append(docs, bson.D{{Key: "n", Value: i}, {Key: "kind", Value: []string{"a", "b"}[i%2]}})
	}
	if _, err := items.InsertMany(ctx, docs); err != nil {
		t.Fatal(err)
	}
	// More than one batch: the cursor is continued with getMore.
	cur, err := items.Find(ctx, bson.D{{Key: "n", Value: bson.D{{Key: "$gte", Value: 10}}}}, options.Find().SetSort(bson.D{{Key: "n", Value: -1}}).SetBatchSize(50))
	if err != nil {
		t.Fatal(err)
	}
	var got []struct{ N int }
	if err := cur.All(ctx, &got); err != nil || len(got) != 240 || got[0].N != 249 || got[239].N != 10 {
		t.Fatalf("%d documents, %v", len(got), err)
	}
	if n, err := items.CountDocuments(ctx, bson.D{{Key: "kind", Value: "a"}}); err != nil || n != 125 {
		t.Errorf("CountDocuments = %d, %v", n, err)
	}
	if _, err := items.UpdateOne(ctx, bson.D{{Key: "n", Value: 1000}}, bson.D{{Key: "$inc", Value: bson.D{{Key: "seen", Value: 2}}}}, options.UpdateOne().SetUpsert(true)); err != nil {
		t.Fatal(err)
	}
	var one struct{ N, Seen int }
	if err := items.FindOne(ctx, bson.D{{Key: "n", Value: 1000}}).Decode(&one); err != nil || one.Seen != 2 {
		t.Errorf("upserted %+v, %v", one, err)
	}
	if r, err := items.DeleteMany(ctx, bson.D{{Key: "kind", Value: "b"}}); err != nil || r.DeletedCount != 125 {
		t.Errorf("DeleteMany %+v, %v", r, err)
	}
	if err := db.CreateCollection(ctx, "empty"); err != nil {
		t.Error(err)
	}
	stop()

	addr, stop = start(t, dir, "root", "ignored after the first start")
	defer stop()
	db = connect(t, "mongodb://root:s3cret@"+addr+"/?authSource=admin").Database("shop")
	names, err := db.ListCollectionNames(ctx, bson.D{})
	if err != nil || strings.Join(names, ",") != "empty,items" {
		t.Errorf("collections after a restart: %v, %v", names, err)
	}
	if n, err := db.Collection("items").EstimatedDocumentCount(ctx); err != nil || n != 126 {
		t.Errorf("documents after a restart: %d, %v", n, err)
	}
}

// TestFirstStartRefusesStrangers: an early version let everybody in until its first
// restart.
func TestFirstStartRefusesStrangers(t *testing.T) {
	addr, stop := start(t, t.TempDir(), "root", "s3cret")
	defer stop()
	for name, uri := range map[string]string{
		"without credentials": "mongodb://" + addr,
		"wrong password":      "mongodb://root:wrong@" + addr + "/?authSource=admin",
		"unknown user":        "mongodb://eve:s3cret@" + addr + "/?authSource=admin",
	} {
		_, err := connect(t, uri).Database("shop").ListCollectionNames(t.Context(), bson.D{})
		if err == nil {
			t.Errorf("%s: let in", name)
		}
	}
}

func TestUnknownCommandsFail(t *testing.T) {
	addr, stop := start(t, t.TempDir(), "", "")
	defer stop()
	db := connect(t, "mongodb://"+addr).Database("shop")
	for _, name := range []string{"createIndexes", "findAndModify", "replSetGetStatus", "bogus"} {
		err := db.RunCommand(t.Context(), bson.D{{Key: name, Value: "items"}}).Err()
		var ce mongo.CommandError
		if !errors.As(err, &ce) || ce.Code != 59 || ce.Name != "CommandNotFound" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := db.Collection("items").Find(t.Context(), bson.D{{Key: "x", Value: bson.D{{Key: "$near", Value: 1}}}}); err != nil {
		t.Errorf("an operator is only looked at where there are documents: %v", err)
	}
	if _, err := db.Collection("items").InsertOne(t.Context(), bson.D{{Key: "x", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Collection("items").Find(t.Context(), bson.D{{Key: "x", Value: bson.D{{Key: "$near", Value: 1}}}}); err == nil {
		t.Error("an unknown operator gave an answer")
	}
}

func TestDuplicateKey(t *testing.T) {
	addr, stop := start(t, t.TempDir(), "", "")
	defer stop()
	c := connect(t, "mongodb://"+addr).Database("shop").Collection("items")
	if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: 7}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.InsertOne(t.Context(), bson.D{{Key: "_id", Value: int64(7)}}); !mongo.IsDuplicateKeyError(err) {
		t.Errorf("second insert of the same id: %v", err)
	}
}

// TestPython runs Debian's pymongo (which greets with isMaster over OP_QUERY) and
// mongoengine against the server.
func TestPython(t *testing.T) {
	addr, stop := start(t, t.TempDir(), "root", "s3cret")
	defer stop()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/client.py", "mongodb://root:s3cret@"+addr+"/shop?authSource=admin")
	cmd.Env = append(os.Environ(), "PYTHONWARNINGS=ignore")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Errorf("%v: %s (Debian's python3-pymongo and python3-mongoengine must be installed)", err, out)
	}
}

func FuzzReadRequest(f *testing.F) {
	raw, _ := bson.Marshal(bson.D{{Key: "ping", Value: 1}, {Key: "$db", Value: "x"}})
	msg := append([]byte{byte(21 + len(raw)), 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0, 0, 0, 0, 0, 0}, raw...)
	f.Add(msg)
	f.Fuzz(func(t *testing.T, in []byte) {
		if req, err := readRequest(strings.NewReader(string(in))); err == nil {
			match(req.command, req.command)
		}
	})
}
