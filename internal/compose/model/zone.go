package model

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"go.yaml.in/yaml/v4"

	"muelle/api"
	"muelle/internal/policy"
	"muelle/internal/spelling"
)

// Extensions that are Muelle's.
const (
	extZone   = "x-zone"
	extExpect = "x-expect"
)

// checkZones refuses zones and expectations that are wrong, and zones that do not keep
// what is expected.
func checkZones(p *types.Project) error {
	_, given := p.Extensions[extExpect]
	if key, err := misspelt(p.Extensions, extExpect); err != nil {
		return at(p, err, key)
	}
	for _, key := range sortedKeys(p.Networks) {
		n := p.Networks[key]
		if wrong, err := misspelt(n.Extensions, extZone); err != nil {
			return at(p, fmt.Errorf("network %s: %w", key, err), "networks", key, wrong)
		}
		_, zone := n.Extensions[extZone]
		given = given || zone
		translated, err := translateNetwork(key, n)
		if err == nil {
			_, err = policy.Zone(translated)
		}
		if err != nil && zone {
			return at(p, err, "networks", key, extZone)
		}
		if err != nil {
			return err
		}
	}
	if !given {
		return nil
	}
	if _, err := expectations(p); err != nil {
		return at(p, err, extExpect)
	}
	spec, err := Spec(p, nil, func(string) {})
	if err != nil {
		return nil // up says it in its own words
	}
	if err := policy.CheckSpec(&spec, nil); err != nil {
		return at(p, err, extExpect)
	}
	return nil
}

// misspelt finds an extension whose name is nearly one of ours: nobody else would tell that
// what is meant to be closed is open.
func misspelt(extensions types.Extensions, want string) (key string, err error) {
	for _, key := range sortedKeys(extensions) {
		if key != want && (spelling.Distance(key, want) <= len(want)/4 || letters(key) == letters(want)) {
			return key, fmt.Errorf("unknown key %q (did you mean %s?)", key, want)
		}
	}
	return "", nil
}

func letters(s string) string {
	b := []byte(s)
	slices.Sort(b)
	return string(b)
}

// expectations are the sentences of x-expect.
func expectations(p *types.Project) ([]string, error) {
	v, ok := p.Extensions[extExpect]
	if !ok || v == nil {
		return nil, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, errors.New("x-expect: it must be a list of sentences such as 'cliente -> app:5000'")
	}
	var out []string
	for i, s := range list {
		text, ok := s.(string)
		if !ok {
			return nil, fmt.Errorf("x-expect[%d]: %v is not a sentence such as 'cliente -> app:5000'", i, s)
		}
		out = append(out, text)
	}
	return out, nil
}

// zone reads x-zone of a network; nil where there is none.
func zone(key string, n types.NetworkConfig) (*api.Zone, error) {
	v, ok := n.Extensions[extZone]
	if !ok || v == nil {
		return nil, nil
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("network %s: x-zone: it must be a map with publish, egress or between", key)
	}
	z := &api.Zone{}
	for _, k := range sortedKeys(m) {
		var err error
		switch v := m[k].(type) {
		case string:
			err = policy.Set(z, k, v)
		case []any:
			err = setList(z, k, v)
		default:
			err = fmt.Errorf("%s: %v is not a word", k, v)
		}
		if err != nil {
			return nil, fmt.Errorf("network %s: x-zone: %w", key, err)
		}
	}
	return z, nil
}

func setList(z *api.Zone, key string, v []any) error {
	var list []string
	for _, e := range v {
		s, ok := e.(string)
		if !ok || strings.Contains(s, ",") {
			return fmt.Errorf("%s: %v is not a name, an address or a prefix", key, e)
		}
		list = append(list, s)
	}
	if key != "egress" {
		return policy.Set(z, key, strings.Join(list, ","))
	}
	var err error
	z.Egress, err = policy.Egress(list)
	return err
}

// at adds where in the project's files a path stands, if it is found there.
func at(p *types.Project, err error, path ...string) error {
	for _, name := range slices.Backward(p.ComposeFiles) {
		data, readErr := os.ReadFile(name)
		if readErr != nil {
			continue
		}
		var doc yaml.Node
		if yaml.Unmarshal(data, &doc) != nil || len(doc.Content) == 0 {
			continue
		}
		if line := lineOf(doc.Content[0], path); line > 0 {
			return fmt.Errorf("%s:%d: %w", name, line, err)
		}
	}
	return err
}

// lineOf finds the line of a key; 0 where it is not.
func lineOf(n *yaml.Node, path []string) int {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return 0
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value != path[0] {
			continue
		}
		if len(path) == 1 {
			return n.Content[i].Line
		}
		return lineOf(n.Content[i+1], path[1:])
	}
	return 0
}
