package api_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"muelle/api"
)

// plain is a RunRequest as encoding/json alone writes it.
type plain api.RunRequest

func TestRunRequestIsReadAsItWasWritten(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var requests []api.RunRequest
	for range 200 {
		var one api.RunRequest
		fill(r, reflect.ValueOf(&one).Elem(), 0)
		requests = append(requests, one)
	}
	empty := []string{}
	requests = append(requests, api.RunRequest{}, api.RunRequest{
		Config:     &container.Config{Cmd: empty, Env: []string{"A=\"\u2028<&\x00"}, Labels: map[string]string{}},
		HostConfig: &container.HostConfig{MaskedPaths: empty, PortBindings: network.PortMap{network.MustParsePort("80/tcp"): {{HostIP: netip.MustParseAddr("::1"), HostPort: "8080"}}}},
	})
	for _, want := range requests {
		normal, err := json.Marshal(plain(want))
		if err != nil {
			t.Fatal(err)
		}
		short, err := json.Marshal(want)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var a, b api.RunRequest
		if err := json.Unmarshal(normal, &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(short, &b); err != nil {
			t.Fatalf("seed %d: %v in %s", seed, err, short)
		}
		if diff := cmp.Diff(a, b, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, network.Port{})); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
		if len(short) > len(normal) {
			t.Errorf("seed %d: %d bytes, without leaving out %d", seed, len(short), len(normal))
		}
	}
}

// fill sets a third of what can be set.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() && (r.IntN(3) == 0 || depth == 0) {
				fill(r, v.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		if depth < 6 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth)
		}
	case reflect.Slice:
		n := r.IntN(3)
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n = 6 // a hardware address
		}
		v.Set(reflect.MakeSlice(v.Type(), n, 6))
		for i := range v.Len() {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), depth+1)
		}
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String {
			v.Set(reflect.MakeMap(v.Type()))
			for range r.IntN(3) {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(r, key, depth+1)
				fill(r, value, depth+1)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.String:
		v.SetString([]string{"", "a", "ü\"\\\n", "<&>"}[r.IntN(4)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.IntN(100)))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(r.IntN(100)))
	}
}
