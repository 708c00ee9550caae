package bridge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"

	"muelle/internal/linux/nft"
)

// tables are the nftables tables of all instances, by name, with their chains.
type tables map[string][]string

func listTables() (tables, error) {
	c, err := nft.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	list, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list nftables tables: %w", err)
	}
	found := tables{}
	for _, t := range list {
		if isOurs(t.Name) {
			found[t.Name] = nil
		}
	}
	if len(found) == 0 {
		return found, nil
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	for _, ch := range chains {
		if _, ok := found[ch.Table.Name]; ok {
			found[ch.Table.Name] = append(found[ch.Table.Name], ch.Name)
		}
	}
	return found, nil
}

// isOurs tells the tables of any instance.
func isOurs(table string) bool {
	rest, ok := strings.CutPrefix(table, "muelle")
	return ok && (rest == "" || rest[0] == '-')
}

func (t tables) has(name string) bool { _, ok := t[name]; return ok }

// guarded tells whether some instance switched a family's forwarding on.
func (t tables) guarded(family int) bool {
	for name := range t {
		if t.guard(name, family) {
			return true
		}
	}
	return false
}

func (t tables) guard(name string, family int) bool {
	return slices.Contains(t[name], guardChains[family])
}
