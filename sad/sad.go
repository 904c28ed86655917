package sad

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Pair is one child SA: an inbound and an outbound SA that live and die together (RFC 7296 §1.4.1).
type Pair struct {
	ID            uint64
	Owner         uint64 // the IKE SA that made it, or its successor
	Peer          netip.Addr
	Local, Remote selector.Set
	Since         int64 // by the host's clock
	SPIIn, SPIOut uint32
	Suite         protect.Suite
	Mode          protect.Mode
	Encap         bool
	Sending       bool
	Carried       bool // an authentic packet came in
	Announced     bool // the answer that gives the peer this pair is on its way: it does not send yet

	ofOwner, ofPeer *Pair // next in the lists of the database
}

// DB holds the pairs. The zero value is empty and ready. Its maps hold pointers that callers may read and whose flags they
// change only through the methods.
type DB struct {
	byID    map[uint64]*Pair
	spis    map[uint32]bool // in use, or reserved and false
	byOwner map[uint64]*Pair
	byPeer  map[netip.Addr]*Pair
}

// firstSPI is the lowest SPI outside the reserved range (RFC 4303 §2.1).
const firstSPI = 0x100

// Reserve draws an unused inbound SPI. It stays reserved until Add takes it or Release returns it.
func (d *DB) Reserve(rand io.Reader) (uint32, error) {
	if d.spis == nil {
		d.spis = make(map[uint32]bool)
	}
	for {
		var b [4]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return 0, fmt.Errorf("sad: no randomness for an SPI: %w", err)
		}
		spi := binary.BigEndian.Uint32(b[:])
		if _, taken := d.spis[spi]; taken || spi < firstSPI {
			continue
		}
		d.spis[spi] = false
		return spi, nil
	}
}

// Release returns a reserved SPI for which no pair came.
func (d *DB) Release(spi uint32) {
	if used, ok := d.spis[spi]; ok && !used {
		delete(d.spis, spi)
	}
}

// Reserved is how many SPIs are kept for pairs that have not come.
func (d *DB) Reserved() int { return len(d.spis) - len(d.byID) }

// Add takes a pair in. Its ID is new.
func (d *DB) Add(p Pair) *Pair {
	if d.byID == nil {
		d.byID = make(map[uint64]*Pair)
		d.byOwner = make(map[uint64]*Pair)
		d.byPeer = make(map[netip.Addr]*Pair)
	}
	if d.spis == nil {
		d.spis = make(map[uint32]bool)
	}
	e := &p
	d.byID[p.ID] = e
	d.spis[p.SPIIn] = true
	add(d.byOwner, e.Owner, e, ownerList)
	add(d.byPeer, e.Peer, e, peerList)
	return e
}

// Get returns a pair, or nil.
func (d *DB) Get(id uint64) *Pair { return d.byID[id] }

// Owned returns the pairs of an IKE SA, oldest first. The slice is the caller's own.
func (d *DB) Owned(owner uint64) []*Pair { return list(d.byOwner[owner], ownerList) }

// With returns the pairs with a peer address, oldest first. The slice is the caller's own.
func (d *DB) With(peer netip.Addr) []*Pair { return list(d.byPeer[peer], peerList) }

// Sole reports whether p is the only pair of its IKE SA.
func (d *DB) Sole(p *Pair) bool { return p.ofOwner == p }

// Len is the number of pairs.
func (d *DB) Len() int { return len(d.byID) }

// Use makes p the pair that sends to its selectors; the others of its peer with the same remote selectors stop.
func (d *DB) Use(p *Pair) {
	for _, o := range d.With(p.Peer) {
		if o != p && o.Sending && overlaps(o.Remote, p.Remote) && overlaps(o.Local, p.Local) {
			o.Sending = false
		}
	}
	p.Sending = true
}

// Retire stops p from sending.
func (d *DB) Retire(p *Pair) { p.Sending = false }

// Remove forgets a pair and returns it, or nil.
func (d *DB) Remove(id uint64) *Pair {
	p := d.byID[id]
	if p == nil {
		return nil
	}
	delete(d.byID, id)
	delete(d.spis, p.SPIIn)
	remove(d.byOwner, p.Owner, p, ownerList)
	remove(d.byPeer, p.Peer, p, peerList)
	return p
}

func overlaps(a, b selector.Set) bool { return len(a.Intersect(b)) > 0 }

// The pairs of one IKE SA are a ring, of which the database knows the last; so are those with one address. Most hold one
// pair, for which a slice would be twice as large as what it is for.

func ownerList(p *Pair) **Pair { return &p.ofOwner }
func peerList(p *Pair) **Pair  { return &p.ofPeer }

func add[K comparable](m map[K]*Pair, k K, p *Pair, next func(*Pair) **Pair) {
	*next(p) = p
	if last := m[k]; last != nil {
		*next(p), *next(last) = *next(last), p
	}
	m[k] = p
}

func remove[K comparable](m map[K]*Pair, k K, p *Pair, next func(*Pair) **Pair) {
	before := p
	for *next(before) != p {
		before = *next(before)
	}
	switch {
	case before == p:
		delete(m, k)
	case m[k] == p:
		m[k] = before
	}
	*next(before), *next(p) = *next(p), nil
}

func list(last *Pair, next func(*Pair) **Pair) (out []*Pair) {
	if last == nil {
		return nil
	}
	for p := *next(last); ; p = *next(p) {
		if out = append(out, p); p == last {
			return out
		}
	}
}
