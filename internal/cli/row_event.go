package cli

import "github.com/moby/moby/api/types/events"

// eventRow is an event for templates and JSON: with the three fields before the
// others that the API has dropped and scripts still ask for.
type eventRow struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func newEventRow(m events.Message) *eventRow {
	r := &eventRow{Message: m}
	switch m.Type {
	case events.ContainerEventType:
		r.From = m.Actor.Attributes["image"]
		fallthrough
	case events.ImageEventType:
		r.Status, r.ID = string(m.Action), m.Actor.ID
	}
	return r
}
