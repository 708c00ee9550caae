package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/xdg-go/scram"
	"go.etcd.io/bbolt"
	"go.mongodb.org/mongo-driver/v2/bson"
)

var (
	usersBucket = []byte("users")
	dataBucket  = []byte("data")
)

// store keeps documents in one bolt file: data/DATABASE/COLLECTION/ID.
type store struct {
	db   *bbolt.DB
	auth bool
}

// openStore opens the file below dir. On its very first start it makes the user, in
// the transaction that makes the file's buckets: there is no moment, and no second
// start needed, before which a client without credentials is let in.
func openStore(dir, user, password string) (*store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, "standin.bolt"), 0o600, &bbolt.Options{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("open data in %s: %w", dir, err)
	}
	s := &store{db: db}
	err = db.Update(func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucketIfNotExists(dataBucket); err != nil {
			return err
		}
		first := tx.Bucket(usersBucket) == nil
		users, err := tx.CreateBucketIfNotExists(usersBucket)
		if err != nil {
			return err
		}
		if first && user != "" {
			if err := putUser(users, user, password); err != nil {
				return err
			}
		}
		any, _ := users.Cursor().First()
		s.auth = any != nil
		return nil
	})
	if err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

func (s *store) close() { s.db.Close() }

type credentials struct {
	Salt, Stored, Server []byte
	Iterations           int
}

func putUser(users *bbolt.Bucket, name, password string) error {
	client, err := scram.SHA256.NewClient(name, password, "")
	if err != nil {
		return err
	}
	salt := make([]byte, 28)
	rand.Read(salt)
	const iterations = 15000 // MongoDB's default
	stored, err := client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: string(salt), Iters: iterations})
	if err != nil {
		return err
	}
	raw, err := bson.Marshal(credentials{Salt: salt, Stored: stored.StoredKey, Server: stored.ServerKey, Iterations: iterations})
	if err != nil {
		return err
	}
	return users.Put([]byte(name), raw)
}

func (s *store) credentials(name string) (scram.StoredCredentials, error) {
	var c credentials
	err := s.db.View(func(tx *bbolt.Tx) error {
		raw := tx.Bucket(usersBucket).Get([]byte(name))
		if raw == nil {
			return fmt.Errorf("no user %q", name)
		}
		return bson.Unmarshal(raw, &c)
	})
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(c.Salt), Iters: c.Iterations},
		StoredKey:  c.Stored, ServerKey: c.Server,
	}, err
}

// collection gives the bucket, or nil where there is none.
func collection(tx *bbolt.Tx, db, coll string) *bbolt.Bucket {
	b := tx.Bucket(dataBucket).Bucket([]byte(db))
	if b == nil {
		return nil
	}
	return b.Bucket([]byte(coll))
}

func makeCollection(tx *bbolt.Tx, db, coll string) (*bbolt.Bucket, error) {
	if db == "" || coll == "" {
		return nil, fail(73, "InvalidNamespace", "Invalid namespace specified '%s.%s'", db, coll)
	}
	b, err := tx.Bucket(dataBucket).CreateBucketIfNotExists([]byte(db))
	if err != nil {
		return nil, err
	}
	return b.CreateBucketIfNotExists([]byte(coll))
}

// find gives the documents of a collection that match, in the order of their ids.
func (s *store) find(db, coll string, filter bson.D) ([]bson.D, error) {
	var out []bson.D
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := collection(tx, db, coll)
		if b == nil {
			return nil
		}
		return b.ForEach(func(_, raw []byte) error {
			var d bson.D
			if err := bson.Unmarshal(raw, &d); err != nil {
				return err
			}
			ok, err := match(d, filter)
			if ok {
				out = append(out, d)
			}
			return err
		})
	})
	return out, err
}
