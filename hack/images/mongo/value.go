package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// commandError is an error with MongoDB's code and code name.
type commandError struct {
	code    int32
	name    string
	message string
}

func (e *commandError) Error() string { return e.message }

func fail(code int32, name, format string, args ...any) error {
	return &commandError{code, name, fmt.Sprintf(format, args...)}
}

func errorDocument(err error) bson.D {
	var ce *commandError
	if !errors.As(err, &ce) {
		ce = &commandError{8, "UnknownError", err.Error()}
	}
	return bson.D{{Key: "ok", Value: 0.0}, {Key: "errmsg", Value: ce.message}, {Key: "code", Value: ce.code}, {Key: "codeName", Value: ce.name}}
}

func get(d bson.D, key string) any {
	for _, e := range d {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

func text(v any) string     { s, _ := v.(string); return s }
func document(v any) bson.D { d, _ := v.(bson.D); return d }
func array(v any) bson.A    { a, _ := v.(bson.A); return a }

func number(v any) (float64, bool) {
	switch x := v.(type) {
	case int32:
		return float64(x), true
	case int64:
		return float64(x), true
	case float64:
		return x, true
	}
	return 0, false
}

func truthy(v any) bool {
	if b, ok := v.(bool); ok {
		return b
	}
	n, ok := number(v)
	return ok && n != 0
}

// lookup follows a dotted path through documents.
func lookup(d bson.D, path string) (any, bool) {
	head, tail, deep := strings.Cut(path, ".")
	for _, e := range d {
		if e.Key != head {
			continue
		}
		if !deep {
			return e.Value, true
		}
		if sub, ok := e.Value.(bson.D); ok {
			return lookup(sub, tail)
		}
		return nil, false
	}
	return nil, false
}

// assign sets the value at a dotted path, making documents on the way.
func assign(d bson.D, path string, v any) bson.D {
	head, tail, deep := strings.Cut(path, ".")
	for i := range d {
		if d[i].Key == head {
			if deep {
				v = assign(document(d[i].Value), tail, v)
			}
			d[i].Value = v
			return d
		}
	}
	if deep {
		v = assign(nil, tail, v)
	}
	return append(d, bson.E{Key: head, Value: v})
}

// remove deletes the value at a dotted path.
func remove(d bson.D, path string) bson.D {
	head, tail, deep := strings.Cut(path, ".")
	for i := range d {
		if d[i].Key != head {
			continue
		}
		if !deep {
			return append(d[:i:i], d[i+1:]...)
		}
		if sub, ok := d[i].Value.(bson.D); ok {
			d[i].Value = remove(sub, tail)
		}
		return d
	}
	return d
}

// compare orders two values: numbers by size whatever their type, others of one
// type among themselves, values of different types by type.
func compare(a, b any) int {
	if x, ok := number(a); ok {
		if y, ok := number(b); ok {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return strings.Compare(x, y)
		}
	case bson.DateTime:
		if y, ok := b.(bson.DateTime); ok {
			switch {
			case x < y:
				return -1
			case x > y:
				return 1
			}
			return 0
		}
	}
	return bytes.Compare(key(a), key(b))
}

// key encodes a value with its type; numbers of equal value have equal keys.
func key(v any) []byte {
	if n, ok := number(v); ok {
		v = n
	}
	typ, raw, err := bson.MarshalValue(v)
	if err != nil {
		return nil
	}
	return append([]byte{byte(typ)}, raw...)
}
