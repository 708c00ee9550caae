package host_test

import (
	"testing"

	"muelle/internal/netdriver"
	"muelle/internal/netdriver/host"
	"muelle/internal/netdriver/netdrivertest"
)

func TestConformance(t *testing.T) {
	netdrivertest.Run(t, netdrivertest.Subject{
		Driver: host.Driver{}, Network: netdriver.Network{Name: "host", Default: true}, Refused: netdriver.Network{Name: "second"},
	})
}
