package sad

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Pair is one child SA: an inbound and an outbound SA that live and die together (RFC 7296 §1.4.1).
type Pair struct {
	ID            uint64
	Owner         uint64 // the IKE SA that made it, or its successor
	Peer          netip.Addr
	Key           identity.PublicKey // zero: the peer has none
	Suite         protect.Suite
	Mode          protect.Mode
	SPIIn, SPIOut uint32
	Local, Remote selector.Set
	Encap         bool
	Since         time.Time
	Sending       bool
	Carried       bool // an authentic packet came in
	Announced     bool // the answer that gives the peer this pair is on its way: it does not send yet
}

// DB holds the pairs. The zero value is empty and ready. Its maps hold pointers that callers may read and whose flags they
// change only through the methods.
type DB struct {
	byID    map[uint64]*Pair
	bySPI   map[uint32]uint64 // reserved ones have ID 0
	byOwner map[uint64][]*Pair
	byPeer  map[netip.Addr][]*Pair
}

// firstSPI is the lowest SPI outside the reserved range (RFC 4303 §2.1).
const firstSPI = 0x100

// Reserve draws an unused inbound SPI. It stays reserved until Add takes it or Release returns it.
func (d *DB) Reserve(rand io.Reader) (uint32, error) {
	if d.bySPI == nil {
		d.bySPI = make(map[uint32]uint64)
	}
	for {
		var b [4]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return 0, fmt.Errorf("sad: no randomness for an SPI: %w", err)
		}
		spi := binary.BigEndian.Uint32(b[:])
		if _, used := d.bySPI[spi]; used || spi < firstSPI {
			continue
		}
		d.bySPI[spi] = 0
		return spi, nil
	}
}

// Release returns a reserved SPI for which no pair came.
func (d *DB) Release(spi uint32) {
	if id, ok := d.bySPI[spi]; ok && id == 0 {
		delete(d.bySPI, spi)
	}
}

// Reserved is how many SPIs are kept for pairs that have not come.
func (d *DB) Reserved() int { return len(d.bySPI) - len(d.byID) }

// Add takes a pair in. Its ID is new.
func (d *DB) Add(p Pair) *Pair {
	if d.byID == nil {
		d.byID = make(map[uint64]*Pair)
		d.byOwner = make(map[uint64][]*Pair)
		d.byPeer = make(map[netip.Addr][]*Pair)
	}
	if d.bySPI == nil {
		d.bySPI = make(map[uint32]uint64)
	}
	e := &p
	d.byID[p.ID] = e
	d.bySPI[p.SPIIn] = p.ID
	d.byOwner[p.Owner] = append(d.byOwner[p.Owner], e)
	d.byPeer[p.Peer] = append(d.byPeer[p.Peer], e)
	return e
}

// Get returns a pair, or nil.
func (d *DB) Get(id uint64) *Pair { return d.byID[id] }

// Owned returns the pairs of an IKE SA, oldest first. The slice is the database's own.
func (d *DB) Owned(owner uint64) []*Pair { return d.byOwner[owner] }

// With returns the pairs with a peer address, oldest first. The slice is the database's own.
func (d *DB) With(peer netip.Addr) []*Pair { return d.byPeer[peer] }

// Len is the number of pairs.
func (d *DB) Len() int { return len(d.byID) }

// Use makes p the pair that sends to its selectors; the others of its peer with the same remote selectors stop.
func (d *DB) Use(p *Pair) {
	for _, o := range d.byPeer[p.Peer] {
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
	delete(d.bySPI, p.SPIIn)
	d.byOwner[p.Owner] = without(d.byOwner[p.Owner], p)
	if len(d.byOwner[p.Owner]) == 0 {
		delete(d.byOwner, p.Owner)
	}
	d.byPeer[p.Peer] = without(d.byPeer[p.Peer], p)
	if len(d.byPeer[p.Peer]) == 0 {
		delete(d.byPeer, p.Peer)
	}
	return p
}

// Move changes the peer address of all pairs of an IKE SA.
func (d *DB) Move(owner uint64, to netip.Addr) {
	for _, p := range d.byOwner[owner] {
		d.byPeer[p.Peer] = without(d.byPeer[p.Peer], p)
		if len(d.byPeer[p.Peer]) == 0 {
			delete(d.byPeer, p.Peer)
		}
		p.Peer = to
		d.byPeer[to] = append(d.byPeer[to], p)
	}
}

func overlaps(a, b selector.Set) bool { return len(a.Intersect(b)) > 0 }

func without(list []*Pair, p *Pair) []*Pair {
	for i, o := range list {
		if o == p {
			return append(list[:i:i], list[i+1:]...)
		}
	}
	return list
}
