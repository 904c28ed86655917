package planetest

import (
	"encoding/binary"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
	"github.com/btns-ipsec/btns/selector"
)

// rules are the decisions of a Memory, each of which a broken plane takes wrongly.
type rules struct {
	apply    func(*flow.Table, []dataplane.Change) (*flow.Table, error)
	out      func(*flow.Table, *selector.Flow, []byte, *flow.PacketInfo) flow.Verdict
	inClear  func(*flow.Table, *selector.Flow) flow.Verdict
	open     func(*flow.Table, Wired) ([]byte, *flow.Pair, flow.Reason)
	moved    func(*flow.Pair, Wired, flow.Reason) bool
	tally    func(*flow.Table, *selector.Flow) uint32
	recount  func(*flow.Table, map[uint32]dataplane.Cleared)
	tos      func(p *flow.Pair, inner uint8) uint8
	countIn  func(p *flow.Pair, octets uint64, now int64) flow.Reached
	countOut func(p *flow.Pair, octets uint64, now int64) flow.Reached
	message  func([]byte) []byte // of IKE, on its way in
	maxHeld  int
	storm    bool // events know no rate
	mute     bool // nothing is asked for while there is an SA with the address
}

func goodRules() rules {
	return rules{
		apply:   dataplane.Next,
		out:     (*flow.Table).OutPacket,
		inClear: (*flow.Table).InClear,
		open:    open,
		moved: func(p *flow.Pair, w Wired, _ flow.Reason) bool {
			return p.PeerMoves && w.From != p.OuterRemote && w.From.Addr().Is4() == p.OuterRemote.Addr().Is4() && p.Opener().Newest()
		},
		tally:    (*flow.Table).Tally,
		recount:  recount,
		tos:      (*flow.Pair).OuterTOS,
		countIn:  func(p *flow.Pair, n uint64, now int64) flow.Reached { return p.CountIn(1, n, now) },
		countOut: func(p *flow.Pair, n uint64, now int64) flow.Reached { return p.CountOut(1, n, now) },
		message:  func(b []byte) []byte { return b },
		maxHeld:  maxHeld,
	}
}

func open(t *flow.Table, w Wired) ([]byte, *flow.Pair, flow.Reason) {
	return t.Open(nil, w.Data, outer(w))
}

func outer(w Wired) flow.Outer {
	return flow.Outer{Local: w.To.Addr(), Remote: w.From.Addr(), TOS: w.TOS}
}

// spiOf is the SPI of an ESP packet, or 0.
func spiOf(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(b)
}
