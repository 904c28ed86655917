package dataplane

import (
	"fmt"

	"github.com/btns-ipsec/btns/dataplane/flow"
)

// ChangeError says which change a plane could not make. Those before it are in force.
type ChangeError struct {
	Index  int // of Change, in what was to be applied
	Change Change
	Err    error
}

func (e *ChangeError) Error() string {
	return fmt.Sprintf("dataplane: change %d (%T): %v", e.Index, e.Change, e.Err)
}

// Unwrap returns why it could not be made.
func (e *ChangeError) Unwrap() error { return e.Err }

// Next is the table after changes, in order. On an error, a [*ChangeError], it is the table after those before the one
// that failed.
func Next(t *flow.Table, changes []Change) (*flow.Table, error) {
	b := t.Build()
	for n, c := range changes {
		if err := apply(b, c); err != nil {
			return b.Table(), &ChangeError{n, c, err}
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
	case SetRules:
		err = b.SetRules(c.Rules)
	}
	return err
}
