package main

import (
	"slices"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// match tells whether a document fulfils a filter. An operator that is not known is
// an error: a wrong answer would be worse.
func match(d, filter bson.D) (bool, error) {
	for _, e := range filter {
		ok, err := matchElement(d, e)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func matchElement(d bson.D, e bson.E) (bool, error) {
	switch e.Key {
	case "$and", "$or", "$nor":
		return matchLogical(d, e.Key, array(e.Value))
	case "$comment":
		return true, nil
	}
	if strings.HasPrefix(e.Key, "$") {
		return false, fail(2, "BadValue", "unknown top level operator: %s", e.Key)
	}
	value, exists := lookup(d, e.Key)
	ops, ok := e.Value.(bson.D)
	if !ok || len(ops) == 0 || !strings.HasPrefix(ops[0].Key, "$") {
		return equal(value, e.Value), nil
	}
	for _, op := range ops {
		ok, err := matchOperator(value, exists, op)
		if !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

func matchLogical(d bson.D, op string, parts bson.A) (bool, error) {
	for _, part := range parts {
		ok, err := match(d, document(part))
		if err != nil {
			return false, err
		}
		if op == "$and" && !ok {
			return false, nil
		}
		if op != "$and" && ok {
			return op == "$or", nil
		}
	}
	return op != "$or", nil
}

func matchOperator(value any, exists bool, op bson.E) (bool, error) {
	switch op.Key {
	case "$eq":
		return equal(value, op.Value), nil
	case "$ne":
		return !equal(value, op.Value), nil
	case "$gt":
		return exists && compare(value, op.Value) > 0, nil
	case "$gte":
		return exists && compare(value, op.Value) >= 0, nil
	case "$lt":
		return exists && compare(value, op.Value) < 0, nil
	case "$lte":
		return exists && compare(value, op.Value) <= 0, nil
	case "$exists":
		return exists == truthy(op.Value), nil
	case "$in", "$nin":
		in := slices.ContainsFunc(array(op.Value), func(w any) bool { return equal(value, w) })
		return in == (op.Key == "$in"), nil
	}
	return false, fail(2, "BadValue", "unknown operator: %s", op.Key)
}

// equal also holds for an array that contains the wanted value.
func equal(value, want any) bool {
	if compare(value, want) == 0 {
		return true
	}
	return slices.ContainsFunc(array(value), func(v any) bool { return compare(v, want) == 0 })
}

// window sorts, skips and limits.
func window(docs []bson.D, sort bson.D, skip, limit any) []bson.D {
	if len(sort) > 0 {
		slices.SortStableFunc(docs, func(a, b bson.D) int {
			for _, e := range sort {
				x, _ := lookup(a, e.Key)
				y, _ := lookup(b, e.Key)
				c := compare(x, y)
				if n, _ := number(e.Value); n < 0 {
					c = -c
				}
				if c != 0 {
					return c
				}
			}
			return 0
		})
	}
	if n, _ := number(skip); n > 0 {
		docs = docs[min(int(n), len(docs)):]
	}
	if n, _ := number(limit); n != 0 {
		docs = docs[:min(int(max(n, -n)), len(docs))]
	}
	return docs
}

// project keeps or drops the top-level fields of a projection.
func project(docs []bson.D, projection bson.D) ([]bson.D, error) {
	if len(projection) == 0 {
		return docs, nil
	}
	include := false
	for _, e := range projection {
		if strings.ContainsAny(e.Key, ".$") {
			return nil, fail(2, "BadValue", "projection of %s is not supported", e.Key)
		}
		if _, ok := e.Value.(bson.D); ok {
			return nil, fail(2, "BadValue", "projection of %s by an expression is not supported", e.Key)
		}
		include = include || e.Key != "_id" && truthy(e.Value)
	}
	out := make([]bson.D, 0, len(docs))
	for _, d := range docs {
		kept := bson.D{}
		for _, e := range d {
			want := get(projection, e.Key)
			switch {
			case want != nil && truthy(want), want == nil && (!include || e.Key == "_id"):
				kept = append(kept, e)
			}
		}
		out = append(out, kept)
	}
	return out, nil
}
