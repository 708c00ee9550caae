package main

import (
	"cmp"
	"fmt"
	"log"
	"time"
)

func (t *table) daemons(string) error {
	const name = "daemon from exec to first answer (200 stopped containers, 30 networks)"
	if !t.wanted(name) {
		return nil
	}
	failed := map[string]error{}
	for i, e := range t.engines {
		if failed[e.name] = e.without("daemon"); failed[e.name] != nil {
			continue
		}
		log.Printf("%s: making 200 containers and 30 networks", e.name)
		failed[e.name] = cmp.Or(
			shared(200, 4, func(n int) error {
				return e.cli("create", "--name", fmt.Sprintf("old%d", n), image, "true").do()
			}),
			shared(30, 1, func(n int) error {
				return e.cli("network", "create", "--subnet", fmt.Sprintf("10.%d.%d.0/24", 210+i, n), fmt.Sprintf("net%d", n)).do()
			}))
	}
	return t.row(name, "100 ms", "ms", 5, func(e *engine) (float64, error) {
		if err := failed[e.name]; err != nil {
			return 0, err
		}
		if err := e.end(); err != nil {
			return 0, err
		}
		time.Sleep(pause)
		return e.launch(patience)
	})
}
