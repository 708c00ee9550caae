package userns_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"muelle/internal/linux/userns"
)

func TestMap(t *testing.T) {
	m := &userns.Map{
		UIDs: []userns.Range{{0, 100000, 1000}, {1000, 500000, 10}},
		GIDs: []userns.Range{{0, 200000, 1000}},
	}
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		in, want uint32
		ok       bool
	}{{0, 100000, true}, {999, 100999, true}, {1000, 500000, true}, {1009, 500009, true}, {1010, 0, false}} {
		got, ok := m.HostUID(tt.in)
		if got != tt.want || ok != tt.ok {
			t.Errorf("HostUID(%d) = %d, %t", tt.in, got, ok)
		}
		if tt.ok {
			if back, ok := m.ContainerUID(got); back != tt.in || !ok {
				t.Errorf("ContainerUID(%d) = %d, %t", got, back, ok)
			}
		}
	}
	if _, ok := m.ContainerGID(0); ok {
		t.Error("the host's root group is mapped")
	}
	var none *userns.Map
	if id, ok := none.HostGID(7); id != 7 || !ok {
		t.Errorf("no map: %d, %t", id, ok)
	}
}

func TestMapRefused(t *testing.T) {
	good := []userns.Range{{0, 100000, 10}}
	for name, bad := range map[string][]userns.Range{
		"nothing":            nil,
		"no root":            {{1, 100000, 10}},
		"empty":              {{0, 100000, 10}, {20, 3, 0}},
		"beyond":             {{0, 1<<32 - 5, 10}},
		"inside overlap":     {{0, 100000, 10}, {9, 200000, 10}},
		"outside overlap":    {{0, 100000, 10}, {10, 100009, 10}},
		"too many":           make([]userns.Range, 341),
		"outside reversed":   {{0, 100000, 10}, {10, 99999, 2}},
		"the last id, which": {{0, 0, 1<<32 - 1}},
	} {
		m := &userns.Map{UIDs: good, GIDs: bad}
		if err := m.Validate(); (err == nil) != (name == "the last id, which") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTranslateOptions(t *testing.T) {
	m := &userns.Map{UIDs: []userns.Range{{0, 100000, 100}}, GIDs: []userns.Range{{0, 200000, 100}}}
	got, err := m.TranslateOptions([]string{"uid=5", "mode=755", "gid=0"})
	if diff := cmp.Diff([]string{"uid=100005", "mode=755", "gid=200000"}, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	for _, bad := range []string{"uid=100", "gid=x", "uid=", "uid=1x"} {
		if _, err := m.TranslateOptions([]string{bad}); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

const subids = "# comment\n\nweb:100000:65536\n33:300000:1000\nother:400000:5\n"

func TestParseSub(t *testing.T) {
	got, err := userns.ParseSub(strings.NewReader(subids), "web", "33")
	if diff := cmp.Diff([]userns.Sub{{100000, 65536}, {300000, 1000}}, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	for _, bad := range []string{"web:1\n", "web:x:1\n", "web:1:0\n", "web:4294967290:100\n", "web:-1:5\n"} {
		if _, err := userns.ParseSub(strings.NewReader(bad), "web"); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func FuzzParseSub(f *testing.F) {
	f.Add(subids)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := userns.ParseSub(strings.NewReader(text), "web")
		if err != nil {
			return
		}
		for _, s := range got {
			if s.Size == 0 || uint64(s.Start)+uint64(s.Size) > 1<<32-1 {
				t.Errorf("range %+v", s)
			}
		}
	})
}

// etc makes a directory with the files that ids are looked up in.
func etc(t *testing.T, subuid, subgid string) string {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"passwd": "root:x:0:0::/:\nweb:x:33:44::/:\n", "group": "root:x:0:\nwebs:x:44:\n", "subuid": subuid, "subgid": subgid,
	} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestRemap(t *testing.T) {
	const uids = "web:100000:10\nweb:200000:20\nmuelle:300000:30\n77:700000:70\n"
	const gids = "webs:400000:40\nweb:500000:50\nmuelle:300000:30\n77:700000:70\n"
	root := etc(t, uids, gids)
	web := []userns.Range{{0, 100000, 10}, {10, 200000, 20}}
	for spec, want := range map[string]*userns.Map{
		"web":       {UIDs: web, GIDs: []userns.Range{{0, 500000, 50}}},
		"33":        {UIDs: web, GIDs: []userns.Range{{0, 500000, 50}}},
		"web:webs":  {UIDs: web, GIDs: []userns.Range{{0, 400000, 40}}},
		"33:44":     {UIDs: web, GIDs: []userns.Range{{0, 400000, 40}}},
		"default":   {UIDs: []userns.Range{{0, 300000, 30}}, GIDs: []userns.Range{{0, 300000, 30}}},
		"77":        {UIDs: []userns.Range{{0, 700000, 70}}, GIDs: []userns.Range{{0, 700000, 70}}},
		"nobody":    nil,
		"root":      nil,
		"":          nil,
		"web:":      nil,
		"web:other": nil,
	} {
		got, err := userns.Remap(root, spec)
		if diff := cmp.Diff(want, got); (err != nil) != (want == nil) || want != nil && diff != "" {
			t.Errorf("%q: %v %s", spec, err, diff)
		}
	}
	_, err := userns.Remap(etc(t, "", ""), "default")
	if err == nil || !strings.Contains(err.Error(), "/etc/subuid") {
		t.Errorf("nobody has ids: %v", err)
	}
}

func TestPool(t *testing.T) {
	p, err := userns.OpenPool(etc(t, "containers:1000000:200000\n", "containers:1050000:200000\n"), "")
	if err != nil {
		t.Fatal(err)
	}
	take := func(name string, size, want uint32) {
		t.Helper()
		m, err := p.Take(name, size)
		if want == 0 {
			if err == nil {
				t.Errorf("%s: got %v, want an error", name, m)
			}
			return
		}
		if err != nil || m.UIDs[0] != (userns.Range{Host: want, Size: size}) || m.GIDs[0] != m.UIDs[0] {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
	take("a", 65536, 1050000)
	take("b", 65536, 1115536)
	take("c", 65536, 0)
	take("d", 100, 1181072)
	p.Release("a")
	p.Keep("z", &userns.Map{UIDs: []userns.Range{{0, 1050010, 5}}})
	take("e", 10, 1050000)
	take("f", 11, 1050015)
	take("g", 65536, 0)
	p.Release("z")
	p.Release("f")
	take("h", 65000, 1050010)
	if _, err := p.Take("i", 65536); err == nil || !strings.HasSuffix(err.Error(), ": 4 containers hold some") {
		t.Errorf("a full pool: %v", err)
	}
	p.Except(&userns.Map{UIDs: []userns.Range{{0, 1200000, 10}}, GIDs: []userns.Range{{0, 1200000, 10}}})
	if _, err := p.Take("i", 65536); err == nil || !strings.Contains(err.Error(), ": 4 containers hold some, and userns-remap") {
		t.Errorf("a full pool that lacks the daemon's own ids: %v", err)
	}
}

func TestPoolSpec(t *testing.T) {
	root := etc(t, "web:100000:65536\n", "web:100000:65536\n")
	for spec, ok := range map[string]bool{"web": true, "5000:10": true, "nobody": false, "0:10": false, "x:y": false, "5:0": false, "4294967290:100": false} {
		if _, err := userns.OpenPool(root, spec); (err == nil) != ok {
			t.Errorf("%q: %v", spec, err)
		}
	}
	p, err := userns.OpenPool(root, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Take("a", 1); err == nil || !strings.Contains(err.Error(), "userns-pool") {
		t.Errorf("no pool: %v", err)
	}
}

func TestParseMode(t *testing.T) {
	for in, want := range map[string]*userns.Mode{
		"": {}, "host": {Host: true}, "auto": {Auto: true, Size: 65536}, "auto:size=1000": {Auto: true, Size: 1000},
		"auto:size=0": nil, "auto:": nil, "auto:size=x": nil, "auto:size=4294967295": nil, "keep-id": nil, "host:x": nil, "private": nil,
	} {
		got, err := userns.ParseMode(in)
		if (err != nil) != (want == nil) || want != nil && got != *want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
}

func TestSame(t *testing.T) {
	same := userns.Same()
	if err := same.Validate(); err != nil || !same.IsSame() {
		t.Errorf("%v, %v, %v", same, same.IsSame(), err)
	}
	if host, ok := same.HostUID(1<<32 - 2); !ok || host != 1<<32-2 {
		t.Errorf("the last user is %d, %t", host, ok)
	}
	for _, other := range []*userns.Map{nil, {}, {UIDs: same.UIDs}, {UIDs: same.UIDs, GIDs: []userns.Range{{Size: 65536}}}} {
		if other.IsSame() {
			t.Errorf("%v is not the host's", other)
		}
	}
}
