// Command app is the API of the zones example: one endpoint that says whether the
// database on the private network answers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	listenAddr = ":5000"
	checkPath  = "/healthcheck/mongo"
	// checkTimeout bounds one check; a client is answered within it whatever the
	// database does.
	checkTimeout = 2 * time.Second
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "healthcheck" {
		os.Exit(probe())
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends. One database client serves the whole process.
func run(ctx context.Context) error {
	name := getenv("MONGO_DB", "mongo_db_default")
	client, err := mongo.Connect(options.Client().ApplyURI(databaseURI()).
		SetConnectTimeout(checkTimeout).
		SetServerSelectionTimeout(checkTimeout).
		SetTimeout(checkTimeout))
	if err != nil {
		return fmt.Errorf("configure the database client: %w", err)
	}
	defer client.Disconnect(context.WithoutCancel(ctx))

	mux := http.NewServeMux()
	mux.Handle("GET "+checkPath, &checker{db: client.Database(name)})
	srv := &http.Server{Addr: listenAddr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		srv.Shutdown(grace)
	})()
	log.Printf("listening on %s", listenAddr)
	if err := srv.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func databaseURI() string {
	u := url.URL{
		Scheme: "mongodb",
		User:   url.UserPassword(getenv("MONGO_USER", "root"), os.Getenv("MONGO_PASSWORD")),
		Host:   net.JoinHostPort(getenv("MONGO_HOST", "mongo"), getenv("MONGO_PORT", "27017")),
		Path:   "/", RawQuery: "authSource=admin",
	}
	return u.String()
}

func getenv(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}

// checker answers the health check; the first one that succeeds makes the
// collections of the application.
type checker struct {
	db *mongo.Database
}

var collections = []string{"users", "products", "orders"}

type answer struct {
	Status      int    `json:"status"`
	Message     string `json:"message"`
	DBName      string `json:"db_name,omitempty"`
	Collections *int   `json:"collections_count,omitempty"`
}

func (c *checker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	a := answer{Status: http.StatusOK, Message: "MongoDB connection is successful (default alias)", DBName: c.db.Name()}
	count, err := c.count(ctx)
	if err != nil {
		log.Printf("check: %v", err)
		a = answer{Status: http.StatusServiceUnavailable, Message: "MongoDB connection FAILED for alias 'default'"}
	} else {
		a.Collections = &count
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.Status)
	json.NewEncoder(w).Encode(a)
}

// count lists the collections, after making those that are missing.
func (c *checker) count(ctx context.Context) (int, error) {
	names, err := c.db.ListCollectionNames(ctx, bson.D{})
	if err != nil {
		return 0, err
	}
	have := map[string]bool{}
	for _, n := range names {
		have[n] = true
	}
	for _, n := range collections {
		if have[n] {
			continue
		}
		if err := c.db.CreateCollection(ctx, n); err != nil && !alreadyExists(err) {
			return 0, err
		}
		have[n] = true
	}
	return len(have), nil
}

// alreadyExists: another check made the collection at the same time.
func alreadyExists(err error) bool {
	var ce mongo.CommandError
	return errors.As(err, &ce) && ce.Code == 48
}

// probe asks the running process, so that the image needs no other program for its
// health check.
func probe() int {
	client := http.Client{Timeout: checkTimeout + time.Second}
	resp, err := client.Get("http://127.0.0.1" + listenAddr + checkPath)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(a.Message)
	if resp.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}
