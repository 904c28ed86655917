package trust

import (
	"cmp"
	"slices"

	"github.com/btns-ipsec/btns/identity"
)

// makeRoom removes records until one more fits: of keys that came once and that nothing rests on, the oldest
// (BTNS-TRUST-17). It takes several at a time, since each round looks at all of them.
func (b *Book) makeRoom(out []Change) ([]Change, error) {
	if b.size < b.cfg.Max {
		return out, nil
	}
	var weak []*Record
	for _, rs := range b.keys {
		for _, r := range rs {
			if r.weak() && (r.Revoked.IsZero() || len(rs) == 1) { // that a key has ended goes last of what is known of it
				weak = append(weak, r)
			}
		}
	}
	if len(weak) == 0 {
		return out, ErrFull
	}
	slices.SortFunc(weak, func(x, y *Record) int {
		return cmp.Or(x.LastSeen.Compare(y.LastSeen), compare(x, y))
	})
	return b.removeAll(weak[:min(len(weak), b.size-b.cfg.Max+1+b.cfg.Max/16)], out, evicted), nil
}

// weak reports whether a record may go by itself. What an operator let in or withdrew stays; what a key said about its own end
// stays if the key was more than a stranger (see revoke), for else a flood of strangers that revoke themselves would fill the book.
func (r *Record) weak() bool {
	return !r.Sticky && r.Assurance <= identity.FirstUse && len(r.Next) == 0 && !r.has(Withdrawn) && !r.byOperator()
}
