package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func (s *store) insert(db, coll string, cmd bson.D) (bson.D, error) {
	n := int32(0)
	failures := bson.A{}
	ordered, given := get(cmd, "ordered").(bool)
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b, err := makeCollection(tx, db, coll)
		if err != nil {
			return err
		}
		for i, v := range array(get(cmd, "documents")) {
			d := document(v)
			if get(d, "_id") == nil {
				d = append(bson.D{{Key: "_id", Value: bson.NewObjectID()}}, d...)
			}
			k := key(get(d, "_id"))
			if b.Get(k) != nil {
				failures = append(failures, bson.D{
					{Key: "index", Value: int32(i)}, {Key: "code", Value: int32(11000)},
					{Key: "errmsg", Value: fmt.Sprintf("E11000 duplicate key error collection: %s.%s index: _id_ dup key", db, coll)},
				})
				if ordered || !given {
					break
				}
				continue
			}
			if err := put(b, k, d); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return withFailures(bson.D{{Key: "n", Value: n}}, failures), err
}

func withFailures(r bson.D, failures bson.A) bson.D {
	if len(failures) > 0 {
		r = append(r, bson.E{Key: "writeErrors", Value: failures})
	}
	return r
}

func put(b *bbolt.Bucket, k []byte, d bson.D) error {
	raw, err := bson.Marshal(d)
	if err != nil {
		return err
	}
	return b.Put(k, raw)
}

type hit struct {
	key []byte
	doc bson.D
}

// hits gives the documents that match, at most limit of them (0: all).
func hits(b *bbolt.Bucket, filter bson.D, limit int) ([]hit, error) {
	var found []hit
	if b == nil {
		return nil, nil
	}
	c := b.Cursor()
	for k, raw := c.First(); k != nil; k, raw = c.Next() {
		var d bson.D
		if err := bson.Unmarshal(raw, &d); err != nil {
			return nil, err
		}
		ok, err := match(d, filter)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, hit{slices.Clone(k), d})
		}
		if limit > 0 && len(found) == limit {
			break
		}
	}
	return found, nil
}

func (s *store) delete(db, coll string, cmd bson.D) (bson.D, error) {
	n := int32(0)
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b := collection(tx, db, coll)
		for _, v := range array(get(cmd, "deletes")) {
			limit, _ := number(get(document(v), "limit"))
			found, err := hits(b, document(get(document(v), "q")), int(limit))
			if err != nil {
				return err
			}
			for _, h := range found {
				if err := b.Delete(h.key); err != nil {
					return err
				}
				n++
			}
		}
		return nil
	})
	return bson.D{{Key: "n", Value: n}}, err
}

func (s *store) update(db, coll string, cmd bson.D) (bson.D, error) {
	matched, modified := int32(0), int32(0)
	upserted := bson.A{}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		for i, v := range array(get(cmd, "updates")) {
			u := document(v)
			change, ok := get(u, "u").(bson.D)
			if !ok {
				return fail(9, "FailedToParse", "updates by a pipeline are not supported")
			}
			limit := 1
			if truthy(get(u, "multi")) {
				limit = 0
			}
			b := collection(tx, db, coll)
			found, err := hits(b, document(get(u, "q")), limit)
			if err != nil {
				return err
			}
			for _, h := range found {
				changed, err := replace(b, h, change)
				if err != nil {
					return err
				}
				matched++
				if changed {
					modified++
				}
			}
			if len(found) == 0 && truthy(get(u, "upsert")) {
				id, err := upsert(tx, db, coll, document(get(u, "q")), change)
				if err != nil {
					return err
				}
				matched++
				upserted = append(upserted, bson.D{{Key: "index", Value: int32(i)}, {Key: "_id", Value: id}})
			}
		}
		return nil
	})
	r := bson.D{{Key: "n", Value: matched}, {Key: "nModified", Value: modified}}
	if len(upserted) > 0 {
		r = append(r, bson.E{Key: "upserted", Value: upserted})
	}
	return r, err
}

func replace(b *bbolt.Bucket, h hit, change bson.D) (changed bool, err error) {
	before := slices.Clone(b.Get(h.key))
	d, err := apply(h.doc, change, false)
	if err != nil {
		return false, err
	}
	raw, err := bson.Marshal(d)
	if err != nil || bytes.Equal(before, raw) {
		return false, err
	}
	return true, b.Put(h.key, raw)
}

// upsert makes a document of the filter's plain equalities and the change.
func upsert(tx *bbolt.Tx, db, coll string, filter, change bson.D) (any, error) {
	base := bson.D{}
	for _, e := range filter {
		if _, nested := e.Value.(bson.D); !nested && !strings.HasPrefix(e.Key, "$") {
			base = append(base, e)
		}
	}
	if get(base, "_id") == nil {
		base = append(bson.D{{Key: "_id", Value: bson.NewObjectID()}}, base...)
	}
	d, err := apply(base, change, true)
	if err != nil {
		return nil, err
	}
	b, err := makeCollection(tx, db, coll)
	if err != nil {
		return nil, err
	}
	id := get(d, "_id")
	return id, put(b, key(id), d)
}

// apply changes a document by operators, or replaces it but for its _id.
func apply(d, change bson.D, inserting bool) (bson.D, error) {
	if len(change) == 0 || !strings.HasPrefix(change[0].Key, "$") {
		out := bson.D{{Key: "_id", Value: get(d, "_id")}}
		for _, e := range change {
			if e.Key != "_id" {
				out = append(out, e)
			}
		}
		return out, nil
	}
	for _, op := range change {
		for _, f := range document(op.Value) {
			old, _ := lookup(d, f.Key)
			switch op.Key {
			case "$set":
				d = assign(d, f.Key, f.Value)
			case "$setOnInsert":
				if inserting {
					d = assign(d, f.Key, f.Value)
				}
			case "$inc":
				d = assign(d, f.Key, add(old, f.Value))
			case "$unset":
				d = remove(d, f.Key)
			case "$push":
				d = assign(d, f.Key, append(slices.Clone(array(old)), f.Value))
			default:
				return nil, fail(9, "FailedToParse", "Unknown modifier: %s", op.Key)
			}
		}
	}
	return d, nil
}
