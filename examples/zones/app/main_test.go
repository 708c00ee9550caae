package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

func TestAnswerWithoutDatabase(t *testing.T) {
	// Nothing listens on port 1.
	t.Setenv("MONGO_HOST", "127.0.0.1")
	t.Setenv("MONGO_PORT", "1")
	client, err := mongo.Connect(options.Client().ApplyURI(databaseURI()).SetServerSelectionTimeout(checkTimeout))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Disconnect(t.Context()) })
	w := httptest.NewRecorder()
	(&checker{db: client.Database("x")}).ServeHTTP(w, httptest.NewRequest("GET", checkPath, nil))
	const want = `{"status":503,"message":"MongoDB connection FAILED for alias 'default'"}`
	if got := strings.TrimSpace(w.Body.String()); w.Code != http.StatusServiceUnavailable || got != want {
		t.Errorf("%d %s, want 503 %s", w.Code, got, want)
	}
}

func TestDatabaseURIEscapesThePassword(t *testing.T) {
	t.Setenv("MONGO_USER", "root")
	t.Setenv("MONGO_PASSWORD", "p@ss/word")
	t.Setenv("MONGO_HOST", "db")
	t.Setenv("MONGO_PORT", "")
	if got, want := databaseURI(), "mongodb://root:p%40ss%2Fword@db:27017/?authSource=admin"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
