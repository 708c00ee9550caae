package api

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
)

// MarshalJSON leaves out whatever is zero, which decodes to the same. A program that
// encodes one request in its life has encoding/json look at each of some 300 types that
// a HostConfig may hold, for half a millisecond, to write the ten fields that are set.
func (r RunRequest) MarshalJSON() ([]byte, error) {
	return appendCompact(make([]byte, 0, 2048), reflect.ValueOf(r.ranged()))
}

var (
	marshaler     = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
)

// appendCompact writes structs, pointers, slices and plain values; everything else,
// and what knows its own form, is encoding/json's.
func appendCompact(b []byte, v reflect.Value) ([]byte, error) {
	t := v.Type()
	if t != reflect.TypeFor[RunRequest]() && (t.Implements(marshaler) || t.Implements(textMarshaler) || reflect.PointerTo(t).Implements(marshaler)) {
		return appendJSON(b, v)
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.AppendBool(b, v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.AppendInt(b, v.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.AppendUint(b, v.Uint(), 10), nil
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, "null"...), nil
		}
		return appendCompact(b, v.Elem())
	case reflect.Slice:
		if v.IsNil() || t.Elem().Kind() == reflect.Uint8 {
			return appendJSON(b, v)
		}
		return appendList(b, v)
	case reflect.Array:
		return appendList(b, v)
	case reflect.Struct:
		first := len(b) + 1
		b, err := appendFields(append(b, '{'), first, v)
		return append(b, '}'), err
	}
	return appendJSON(b, v)
}

func appendJSON(b []byte, v reflect.Value) ([]byte, error) {
	one, err := json.Marshal(v.Interface())
	return append(b, one...), err
}

func appendList(b []byte, v reflect.Value) (_ []byte, err error) {
	b = append(b, '[')
	for i := range v.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendCompact(b, v.Index(i)); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// appendFields writes the members of an object that begins at first.
func appendFields(b []byte, first int, v reflect.Value) (_ []byte, err error) {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		value := v.Field(i)
		if !f.IsExported() && !f.Anonymous || tag == "-" || value.IsZero() {
			continue
		}
		switch value.Kind() {
		case reflect.Slice, reflect.Map:
			if value.Len() == 0 && strings.Contains(options, "omitempty") {
				continue
			}
		}
		if f.Anonymous && name == "" && value.Kind() == reflect.Struct {
			if b, err = appendFields(b, first, value); err != nil {
				return nil, err
			}
			continue
		}
		if len(b) > first {
			b = append(b, ',')
		}
		if name == "" {
			name = f.Name
		}
		b = append(strconv.AppendQuote(b, name), ':')
		if strings.Contains(options, "string") {
			return nil, &json.UnsupportedTypeError{Type: f.Type}
		}
		if b, err = appendCompact(b, value); err != nil {
			return nil, err
		}
	}
	return b, nil
}
