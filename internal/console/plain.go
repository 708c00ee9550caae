package console

import (
	"net"
	"net/netip"
	"reflect"

	"github.com/moby/moby/api/types/network"
)

// texts are the types that Docker's templates know as strings: an address that is
// not set is empty there, and false for {{if}}, not "invalid IP".
var texts = map[reflect.Type]bool{
	reflect.TypeFor[netip.Addr]():           true,
	reflect.TypeFor[netip.Prefix]():         true,
	reflect.TypeFor[net.HardwareAddr]():     true,
	reflect.TypeFor[network.HardwareAddr](): true,
	reflect.TypeFor[network.Port]():         true,
}

// Plain returns an empty value of v's type, v being a pointer, in which addresses
// and ports are strings. JSON is decoded into it as into v.
func Plain(v any) any {
	t := reflect.TypeOf(v).Elem()
	p := plainer{}
	return reflect.New(p.plain(t)).Interface()
}

// plainer rewrites types; a type on the way up stays what it is, so that one which
// contains itself ends the descent.
type plainer map[reflect.Type]reflect.Type

func (p plainer) plain(t reflect.Type) reflect.Type {
	if texts[t] {
		return reflect.TypeFor[string]()
	}
	if done, ok := p[t]; ok {
		return done
	}
	p[t] = t
	switch t.Kind() {
	case reflect.Pointer:
		p[t] = p.changed(t, func() reflect.Type { return reflect.PointerTo(p.plain(t.Elem())) }, t.Elem())
	case reflect.Slice:
		p[t] = p.changed(t, func() reflect.Type { return reflect.SliceOf(p.plain(t.Elem())) }, t.Elem())
	case reflect.Map:
		p[t] = p.changed(t, func() reflect.Type { return reflect.MapOf(p.plain(t.Key()), p.plain(t.Elem())) }, t.Key(), t.Elem())
	case reflect.Struct:
		p[t] = p.plainStruct(t)
	}
	return p[t]
}

// changed makes the new type only where one of its parts is another: a type that
// stays keeps its methods.
func (p plainer) changed(t reflect.Type, make func() reflect.Type, parts ...reflect.Type) reflect.Type {
	for _, part := range parts {
		if p.plain(part) != part {
			return make()
		}
	}
	return t
}

func (p plainer) plainStruct(t reflect.Type) reflect.Type {
	var fields []reflect.StructField
	other := false
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() {
			return t // not a document
		}
		was := f.Type
		f.Type = p.plain(was)
		other = other || f.Type != was
		fields = append(fields, f)
	}
	if !other {
		return t
	}
	return reflect.StructOf(fields)
}
