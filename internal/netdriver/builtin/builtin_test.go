package builtin_test

import (
	"testing"

	"muelle/internal/netdriver"
	"muelle/internal/netdriver/builtin"
	"muelle/internal/netdriver/netdrivertest"
)

func TestConformance(t *testing.T) {
	for network, driver := range map[string]string{"host": "host", "none": "null"} {
		t.Run(network, func(t *testing.T) {
			netdrivertest.Run(t, netdrivertest.Subject{
				Driver: builtin.Driver{Name: driver}, Network: netdriver.Network{Name: network, Default: true}, Refused: netdriver.Network{Name: "second"},
			})
		})
	}
}
