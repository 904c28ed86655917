package flow

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"github.com/btns-ipsec/btns/esp"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// ErrSpec says that a pair cannot be made or changed as asked.
var ErrSpec = errors.New("flow: bad SA pair")

// Pair is a pair of SAs in a table. It does not change; when its peer moves, a new Pair with the same state takes its
// place, so compare IDs and not pointers. The sealer belongs to one sending goroutine, the opener to one receiving one;
// counters may be read anywhere.
type Pair struct {
	live        *live
	*terms               // a table's pairs have one and the same, where they are equal
	special     *special // nil: all between OuterLocal and OuterRemote, and nothing else
	ID          PairID
	OuterRemote netip.AddrPort
	SPIIn       uint32
}

// terms are what many pairs have in common. The fields are those of [Spec].
type terms struct {
	Suite      protect.Suite
	Mode       protect.Mode
	Encap      bool
	PeerMoves  bool
	Marks      protect.Marks
	OuterLocal netip.AddrPort
	SawLocal   netip.Addr
	Soft, Hard protect.Limits
}

// special is what a pair has besides that is not simply between two hosts.
type special struct {
	local, remote selector.Set
	only          netip.Addr // when the selectors are all between this local address and one remote prefix; else invalid
	host          netip.Addr // the only remote address in the selectors, if there is but one
	sawRemote     netip.Addr
}

// live is what the packets of a pair change. What those that leave write lies far from what those that come write, since
// they do it on different processors.
type live struct {
	out   usage
	spent atomic.Bool
	soft  atomic.Bool
	seal  esp.Sealer
	plane any // see NewPairWith
	open  esp.Opener
	in    usage
	drops atomic.Uint64
}

type usage struct {
	packets, octets atomic.Uint64
	last            atomic.Int64
}

// NewPair checks s and makes both halves. Keys and selectors of s are kept and must not change.
func NewPair(s Spec) (*Pair, error) {
	p, _, err := NewPairWith[struct{}](s)
	return p, err
}

// NewPairWith is NewPair with a value of the plane's own attached (see [Pair.Attached]).
func NewPairWith[T any](s Spec) (*Pair, *T, error) {
	seal, open, err := halves(&s)
	if err != nil {
		return nil, nil, err
	}
	whole := &struct { // one object: most peers never move
		Pair
		live
		own T
	}{live: live{seal: *seal, open: *open}}
	whole.Pair = Pair{
		live: &whole.live,
		terms: &terms{
			s.Suite, s.Mode, s.Encap, s.PeerMoves, s.Marks, s.OuterLocal, s.SawLocal, s.Soft, s.Hard,
		},
		special: specialOf(&s), ID: s.ID, SPIIn: s.SPIIn, OuterRemote: s.OuterRemote,
	}
	whole.plane = &whole.own
	return &whole.Pair, &whole.own, nil
}

// halves checks s and makes both halves.
func halves(s *Spec) (*esp.Sealer, *esp.Opener, error) {
	if s.Mode != protect.Transport && s.Mode != protect.Tunnel {
		return nil, nil, fmt.Errorf("%w: %v", ErrSpec, s.Mode)
	}
	if len(s.Local) == 0 || len(s.Remote) == 0 {
		return nil, nil, fmt.Errorf("%w: no selectors", ErrSpec)
	}
	for _, set := range [...]selector.Set{s.Local, s.Remote} {
		for _, sel := range set {
			if !sel.Valid() {
				return nil, nil, fmt.Errorf("%w: selector %v", ErrSpec, sel)
			}
		}
	}
	if !s.OuterLocal.Addr().IsValid() || s.OuterLocal.Addr().Is4() != s.OuterRemote.Addr().Is4() {
		return nil, nil, fmt.Errorf("%w: outer addresses %v and %v", ErrSpec, s.OuterLocal, s.OuterRemote)
	}
	seal, err := esp.NewSealer(s.Suite, s.SPIOut, s.KeysOut)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: outbound: %w", ErrSpec, err)
	}
	open, err := esp.NewOpener(s.Suite, s.SPIIn, s.KeysIn, s.Window)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: inbound: %w", ErrSpec, err)
	}
	return seal, open, nil
}

// specialOf is nil for a pair that carries all between its outer addresses.
func specialOf(s *Spec) *special {
	if !s.SawRemote.IsValid() && justHost(s.Local, s.OuterLocal.Addr()) && justHost(s.Remote, s.OuterRemote.Addr()) {
		return nil
	}
	x := &special{local: s.Local, remote: s.Remote, sawRemote: s.SawRemote}
	if k := keys(s.Remote); len(k) == 1 && k[0].IsSingleIP() {
		x.host = k[0].Addr()
	}
	if l, r := s.Local[0], s.Remote[0]; len(s.Local) == 1 && len(s.Remote) == 1 && l == selector.Host(l.From) && r.Upper() == "" {
		if _, whole := r.Prefix(); whole {
			x.only = l.From
		}
	}
	return x
}

// justHost reports whether s is everything at a, and a is written as in packets.
func justHost(s selector.Set, a netip.Addr) bool {
	h := selector.Host(a)
	return len(s) == 1 && s[0] == h && h.From == a
}

// Selectors are those of the packets that the pair carries, as this host sees them.
func (p *Pair) Selectors() (local, remote selector.Set) {
	if x := p.special; x != nil {
		return x.local, x.remote
	}
	return selector.Set{selector.Host(p.OuterLocal.Addr())}, selector.Set{selector.Host(p.OuterRemote.Addr())}
}

// host is the only remote address in the selectors, invalid if there are more.
func (p *Pair) host() netip.Addr {
	if p.special != nil {
		return p.special.host
	}
	return p.OuterRemote.Addr()
}

// Saw are the peer's view of both addresses; invalid where they are not known.
func (p *Pair) Saw() (local, remote netip.Addr) {
	if p.special != nil {
		remote = p.special.sawRemote
	}
	return p.SawLocal, remote
}

// takes reports whether the selectors have an outbound packet to an address in a prefix of the pair's.
func (p *Pair) takes(f *selector.Flow) bool {
	x := p.special
	switch {
	case x == nil:
		return f.Local == p.OuterLocal.Addr()
	case x.only.IsValid():
		return f.Local == x.only
	}
	return selector.Match(x.local, x.remote, *f)
}

// carries reports whether the selectors have a packet.
func (p *Pair) carries(f *selector.Flow) bool {
	if x := p.special; x != nil {
		return selector.Match(x.local, x.remote, *f)
	}
	return f.Local == p.OuterLocal.Addr() && f.Remote == p.OuterRemote.Addr()
}

// carriesLocal reports whether some selector has a local address, carriesRemote likewise.
func (p *Pair) carriesLocal(a netip.Addr) bool {
	if x := p.special; x != nil {
		return x.local.ContainsAddr(a)
	}
	return a == p.OuterLocal.Addr()
}

func (p *Pair) carriesRemote(a netip.Addr) bool {
	if x := p.special; x != nil {
		return x.remote.ContainsAddr(a)
	}
	return a == p.OuterRemote.Addr()
}

// keys are the prefixes under which the pair is found.
func (p *Pair) keys() []netip.Prefix {
	if x := p.special; x != nil {
		return keys(x.remote)
	}
	a := p.OuterRemote.Addr()
	return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}
}

// OuterTOS is the type-of-service octet of the outer header of a packet with this inner one.
func (p *Pair) OuterTOS(inner uint8) uint8 { return p.Marks.Outer(inner, p.Mode) }

// Sealer is the outbound half.
func (p *Pair) Sealer() *esp.Sealer { return &p.live.seal }

// Opener is the inbound half.
func (p *Pair) Opener() *esp.Opener { return &p.live.open }

// moved is p with another outer remote address, sharing all state.
func (p *Pair) moved(remote netip.AddrPort) *Pair {
	q := *p
	if q.OuterRemote = remote; p.special == nil && remote.Addr() != p.OuterRemote.Addr() {
		l, r := p.Selectors() // they stay
		q.special = &special{local: l, remote: r, only: p.OuterLocal.Addr(), host: p.OuterRemote.Addr()}
	}
	return &q
}

// share has p use terms that pairs of the table already have. all are the known ones, latest first; the result is what is
// known then.
func (p *Pair) share(all []*terms) []*terms {
	const most = 16 // as many as a policy makes; others have theirs to themselves
	for _, t := range all {
		if *t == *p.terms {
			p.terms = t
			return all
		}
	}
	return append([]*terms{p.terms}, all[:min(len(all), most-1)]...)
}

// Reached says what a packet brought about; each of it happens once in the life of a pair.
type Reached uint8

// What counting a packet can bring about.
const (
	First     Reached = 1 << iota // the first authentic packet came in
	SoftLimit                     // time to replace the pair
	HardLimit                     // the pair is spent: it neither seals nor opens
)

// CountOut counts sealed packets and the octets protected in them. now is a clock of the caller's, kept for Usage.
func (p *Pair) CountOut(packets, octets uint64, now int64) Reached {
	return p.count(&p.live.out, packets, octets, now)
}

// CountIn counts authentic packets (RFC 4301 §4.4.2.1) and the octets in them.
func (p *Pair) CountIn(packets, octets uint64, now int64) Reached {
	r := p.count(&p.live.in, packets, octets, now)
	if p.live.in.packets.Load() == packets {
		r |= First
	}
	return r
}

func (p *Pair) count(u *usage, packets, octets uint64, now int64) (r Reached) {
	n, o := u.packets.Add(packets), u.octets.Add(octets)
	u.last.Store(now)
	if over(p.Soft, n, o) && !p.live.soft.Swap(true) {
		r |= SoftLimit
	}
	if over(p.Hard, n, o) {
		r |= p.Spend()
	}
	return r
}

func over(l protect.Limits, packets, octets uint64) bool {
	return l.Packets != 0 && packets >= l.Packets || l.Bytes != 0 && octets >= l.Bytes
}

// Spend ends the use of a pair, as when its sequence numbers are exhausted; HardLimit comes back the first time.
func (p *Pair) Spend() Reached {
	if p.live.spent.Swap(true) {
		return 0
	}
	return HardLimit
}

// Spent reports whether the pair is used up. Nothing may be sealed or opened with it.
func (p *Pair) Spent() bool { return p.live.spent.Load() }

// Drop counts an inbound packet dropped after its SPI was found.
func (p *Pair) Drop() { p.live.drops.Add(1) }

// Limited reports whether what the pair carries is limited by packets or octets.
func (p *Pair) Limited() bool { return p.Hard.Packets != 0 || p.Hard.Bytes != 0 }

// Used reports whether any packet has come or gone under the pair.
func (p *Pair) Used() bool {
	l := p.live
	return l.in.packets.Load()|l.out.packets.Load()|l.drops.Load() != 0
}

// Usage is what a pair has carried.
type Usage struct {
	PacketsIn, PacketsOut, BytesIn, BytesOut, Drops uint64
	LastIn, LastOut                                 int64 // as given to CountIn and CountOut
}

// Usage reads the counters.
func (p *Pair) Usage() Usage {
	l := p.live
	return Usage{
		PacketsIn: l.in.packets.Load(), PacketsOut: l.out.packets.Load(), BytesIn: l.in.octets.Load(), BytesOut: l.out.octets.Load(),
		Drops: l.drops.Load(), LastIn: l.in.last.Load(), LastOut: l.out.last.Load(),
	}
}

// same reports whether two pairs serve the same packets.
func (p *Pair) same(q *Pair) bool {
	if p.special == nil && q.special == nil {
		return p.OuterRemote.Addr() == q.OuterRemote.Addr() && p.OuterLocal.Addr() == q.OuterLocal.Addr()
	}
	pl, pr := p.Selectors()
	ql, qr := q.Selectors()
	return equal(pl, ql) && equal(pr, qr)
}

func equal(a, b selector.Set) bool {
	if len(a) == 1 && len(b) == 1 {
		return a[0] == b[0]
	}
	return a.Covers(b) && b.Covers(a)
}
