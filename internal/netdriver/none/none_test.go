package none_test

import (
	"testing"

	"muelle/internal/netdriver"
	"muelle/internal/netdriver/netdrivertest"
	"muelle/internal/netdriver/none"
)

func TestConformance(t *testing.T) {
	netdrivertest.Run(t, netdrivertest.Subject{
		Driver: none.Driver{}, Network: netdriver.Network{Name: "none", Default: true}, Refused: netdriver.Network{Name: "second"},
	})
}
