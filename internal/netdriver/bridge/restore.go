package bridge

import (
	"fmt"

	"github.com/google/nftables"
)

// restore looks at our tables after somebody changed rules: what is not there any
// more, be it one element, is written again.
func (f *firewall) restore() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.up {
		return
	}
	if err := f.mend(); err != nil {
		f.log.Error("nftables table is not restored", "table", f.name, "err", err)
	}
}

func (f *firewall) mend() error {
	lost, err := f.lost()
	if err != nil {
		return err
	}
	if f.t.forwards6 != forwards6() {
		return f.replace()
	}
	if lost == "" || lost == f.incomparable {
		return nil
	}
	f.log.Warn("nftables table was changed by somebody: writing it again", "table", f.name, "lost", lost)
	before, err := generation()
	if err != nil {
		return err
	}
	if err := f.replace(); err != nil {
		return err
	}
	f.incomparable = ""
	still, err := f.lost()
	if err != nil || still == "" {
		return err
	}
	after, err := generation()
	if err != nil {
		return err
	}
	if after != before+1 {
		return nil // changed again since, of which the watch is told
	}
	// What the kernel does not give back as it was written would be written for ever.
	f.incomparable = still
	return fmt.Errorf("it differs even when it has just been written: %s", still)
}

// lost says what of our tables the kernel does not have any more.
func (f *firewall) lost() (string, error) {
	t := newTable(f.name)
	t.forwards6 = f.t.forwards6
	f.spoof.mu.Lock()
	want, err := record(func(c *nftables.Conn) error { return f.fill(c, t) })
	f.spoof.mu.Unlock()
	if err != nil {
		return "", fmt.Errorf("tell what nftables should have: %w", err)
	}
	have, err := readTables(want)
	if changedByOthers(err) {
		return "some of it, while it was read", nil
	}
	if err != nil {
		return "", fmt.Errorf("read nftables: %w", err)
	}
	return want.missing(have), nil
}

// intact tells whether all of our rules are there.
func (f *firewall) intact() (bool, error) {
	lost, err := f.lost()
	return lost == "" || lost == f.incomparable, err
}
