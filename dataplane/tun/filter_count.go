//go:build linux

package tun

import (
	"fmt"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// tallies count what leaves in clear, in counters of the plane's table: packets to hosts without SAs never come to this
// process. A counter stands in a rule of the SPD that is there for it, and outlives the chains that rules are made into.
type tallies struct {
	mu    sync.Mutex
	nft   *nftables.Conn // another one than that of changes, which may be under way
	table *nftables.Table
	made  map[uint32]bool
}

func tallyName(n uint32) string { return fmt.Sprintf("clear-%d", n) }

func (t *tallies) object(n uint32) *nftables.CounterObj {
	return &nftables.CounterObj{Table: t.table, Name: tallyName(n)}
}

// want makes the counters of rules with the next flush, after which they are to be told to have, and names those that no
// rule has any more.
func (t *tallies) want(c *nftables.Conn, rules []flow.Rule) (wanted map[uint32]bool, gone []uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wanted = make(map[uint32]bool)
	for i := range rules {
		n := rules[i].Tally
		if n == 0 || wanted[n] {
			continue
		}
		wanted[n] = true
		if !t.made[n] {
			c.AddObj(t.object(n))
		}
	}
	for n := range t.made {
		if !wanted[n] {
			gone = append(gone, n)
		}
	}
	return wanted, gone
}

// have says which counters there are.
func (t *tallies) have(made map[uint32]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made = made
}

// counts is the expression that counts under a number.
func counts(n uint32) []expr.Any {
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: tallyName(n)}}
}

// read appends what has been counted. On a failure nothing has.
func (t *tallies) read(buf []dataplane.Cleared) []dataplane.Cleared {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.made) == 0 {
		return buf
	}
	all, err := t.nft.GetObjects(t.table)
	if err != nil {
		return buf
	}
	for _, o := range all {
		c, ok := o.(*nftables.CounterObj)
		if !ok {
			continue
		}
		var n uint32
		if _, err := fmt.Sscanf(c.Name, "clear-%d", &n); err == nil && t.made[n] {
			buf = append(buf, dataplane.Cleared{Tally: n, Packets: c.Packets, Bytes: c.Bytes})
		}
	}
	return buf
}
