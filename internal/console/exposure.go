package console

import (
	"slices"

	"github.com/moby/moby/api/types/container"

	"muelle/api"
)

// Exposure tells who can really reach the published ports. It has two results so that
// {{json .}} leaves it out: Docker's rows have no such field.
func (c *Container) Exposure() (string, error) {
	if c.Reach == nil {
		return "", nil
	}
	report, err := c.Reach()
	if err != nil {
		return "", err
	}
	return report.Of(c.Of.ID), nil
}

// Publish tells whether one of the containers has ports that others may reach.
func Publish(list []container.Summary) bool {
	return slices.ContainsFunc(list, func(s container.Summary) bool {
		return s.State == container.StateRunning && s.HostConfig.NetworkMode == "host" ||
			slices.ContainsFunc(s.Ports, func(p container.PortSummary) bool { return p.PublicPort > 0 })
	})
}

// Reach asks once, and only if somebody wants to know.
type Reach = func() (*api.ExposureReport, error)
