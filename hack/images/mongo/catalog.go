package main

import (
	"errors"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func (s *store) listCollections(db string, filter bson.D) ([]bson.D, error) {
	var out []bson.D
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(dataBucket).Bucket([]byte(db))
		if b == nil {
			return nil
		}
		return b.ForEachBucket(func(name []byte) error {
			d := bson.D{
				{Key: "name", Value: string(name)}, {Key: "type", Value: "collection"},
				{Key: "options", Value: bson.D{}}, {Key: "info", Value: bson.D{{Key: "readOnly", Value: false}}},
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

func (s *store) listDatabases() (bson.D, error) {
	out := bson.A{}
	var total int64
	err := s.db.View(func(tx *bbolt.Tx) error {
		data := tx.Bucket(dataBucket)
		return data.ForEachBucket(func(name []byte) error {
			size := int64(data.Bucket(name).Stats().LeafInuse)
			total += size
			out = append(out, bson.D{{Key: "name", Value: string(name)}, {Key: "sizeOnDisk", Value: size}, {Key: "empty", Value: size == 0}})
			return nil
		})
	})
	return bson.D{{Key: "databases", Value: out}, {Key: "totalSize", Value: total}}, err
}

// listIndexes gives the one index there is: documents are kept by _id.
func (s *store) listIndexes(srv *server, db, coll string) (bson.D, error) {
	exists := false
	err := s.db.View(func(tx *bbolt.Tx) error { exists = collection(tx, db, coll) != nil; return nil })
	if err != nil {
		return nil, err
	}
	if !exists {
		return nil, fail(26, "NamespaceNotFound", "ns does not exist: %s.%s", db, coll)
	}
	index := bson.D{{Key: "v", Value: int32(2)}, {Key: "key", Value: bson.D{{Key: "_id", Value: int32(1)}}}, {Key: "name", Value: "_id_"}}
	return srv.first(db+"."+coll, []bson.D{index}, nil), nil
}

func (s *store) createCollection(db, coll string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if collection(tx, db, coll) != nil {
			return fail(48, "NamespaceExists", "Collection %s.%s already exists.", db, coll)
		}
		_, err := makeCollection(tx, db, coll)
		return err
	})
}

func (s *store) drop(db, coll string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		if collection(tx, db, coll) == nil {
			return nil
		}
		return tx.Bucket(dataBucket).Bucket([]byte(db)).DeleteBucket([]byte(coll))
	})
}

func (s *store) dropDatabase(db string) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		err := tx.Bucket(dataBucket).DeleteBucket([]byte(db))
		if errors.Is(err, berrors.ErrBucketNotFound) {
			return nil
		}
		return err
	})
}
