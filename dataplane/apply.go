package dataplane

import (
	"fmt"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// Next is the table after changes, in order. On an error it is the table after those before the one that failed.
func Next(t *flow.Table, changes []Change) (*flow.Table, error) {
	b := t.Build()
	for _, c := range changes {
		if err := apply(b, c); err != nil {
			return b.Table(), err
		}
	}
	return b.Table(), nil
}

func apply(b *flow.Builder, c Change) error {
	var err error
	switch c := c.(type) {
	case AddSA:
		var p *flow.Pair
		if p, err = flow.NewPair(c.Spec); err == nil {
			err = b.Add(p, c.Use)
		}
	case UseSA:
		err = b.Use(c.ID)
	case RetireSA:
		err = b.Retire(c.ID)
	case RemoveSA:
		b.Remove(c.ID)
	case MoveSA:
		err = b.Move(c.ID, c.Remote)
	case SetPrefix:
		err = b.SetPrefix(c.Prefix, c.State)
	}
	if err != nil {
		return fmt.Errorf("dataplane: %T: %w", c, err)
	}
	return nil
}
