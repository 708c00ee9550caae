package main

import (
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

func (s *store) query(db, coll string, cmd bson.D) ([]bson.D, error) {
	docs, err := s.find(db, coll, document(get(cmd, "filter")))
	if err != nil {
		return nil, err
	}
	docs = window(docs, document(get(cmd, "sort")), get(cmd, "skip"), get(cmd, "limit"))
	return project(docs, document(get(cmd, "projection")))
}

func (s *store) aggregate(db, coll string, pipeline bson.A) ([]bson.D, error) {
	docs, err := s.find(db, coll, nil)
	for _, v := range pipeline {
		if err != nil {
			return nil, err
		}
		stage := document(v)
		if len(stage) != 1 {
			return nil, fail(40323, "Location40323", "A pipeline stage specification object must contain exactly one field.")
		}
		docs, err = runStage(docs, stage[0])
	}
	return docs, err
}

func runStage(docs []bson.D, stage bson.E) ([]bson.D, error) {
	switch stage.Key {
	case "$match":
		var out []bson.D
		for _, d := range docs {
			ok, err := match(d, document(stage.Value))
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, d)
			}
		}
		return out, nil
	case "$sort":
		return window(docs, document(stage.Value), nil, nil), nil
	case "$skip":
		return window(docs, nil, stage.Value, nil), nil
	case "$limit":
		return window(docs, nil, nil, stage.Value), nil
	case "$project":
		return project(docs, document(stage.Value))
	case "$count":
		if len(docs) == 0 {
			return nil, nil
		}
		return []bson.D{{{Key: text(stage.Value), Value: int32(len(docs))}}}, nil
	case "$group":
		return group(docs, document(stage.Value))
	}
	return nil, fail(40324, "Location40324", "Unrecognized pipeline stage name: '%s'", stage.Key)
}

// group knows $sum of a constant or a field: what counting documents needs.
func group(docs []bson.D, spec bson.D) ([]bson.D, error) {
	var order []string
	groups := map[string]bson.D{}
	for _, d := range docs {
		id := expression(d, get(spec, "_id"))
		k := string(key(id))
		current, ok := groups[k]
		if !ok {
			order = append(order, k)
			current = bson.D{{Key: "_id", Value: id}}
		}
		for _, e := range spec {
			if e.Key == "_id" {
				continue
			}
			acc := document(e.Value)
			if len(acc) != 1 || acc[0].Key != "$sum" {
				return nil, fail(15952, "Location15952", "unknown group operator in %s", e.Key)
			}
			current = assign(current, e.Key, add(get(current, e.Key), expression(d, acc[0].Value)))
		}
		groups[k] = current
	}
	var out []bson.D
	for _, k := range order {
		out = append(out, groups[k])
	}
	return out, nil
}

func expression(d bson.D, v any) any {
	if path, ok := strings.CutPrefix(text(v), "$"); ok {
		v, _ = lookup(d, path)
	}
	return v
}

// add sums two numbers; what is no number counts as zero. Integers stay integers.
func add(a, b any) any {
	x, _ := number(a)
	y, _ := number(b)
	_, floatA := a.(float64)
	_, floatB := b.(float64)
	if floatA || floatB {
		return x + y
	}
	if sum := int64(x) + int64(y); sum != int64(int32(sum)) {
		return sum
	}
	return int32(x + y)
}
