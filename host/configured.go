package host

import (
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Start says who begins with a configured peer.
type Start uint8

const (
	StartOnDemand Start = iota // the first packet
	StartUp                    // this host, at once and again
	StartListen                // the peer
)

// Peer is a configured peer. What it must show, and which selectors it may ask for, stands in the PAD entry of its name.
type Peer struct {
	Name   string
	Local  netip.Addr // invalid: the system chooses
	Remote netip.Addr // invalid: the peers of the entry come from wherever they are; only Name and Self count
	Self   ikev2.Local
	Mode   protect.Mode
	// Inside is what is protected: the selectors on our side and on the peer's.
	InsideLocal, InsideRemote []netip.Prefix
	Start                     Start
	Childless                 bool // make the IKE SA first, the child by CREATE_CHILD_SA (RFC 6023)
	Offer                     []protect.Suite
	KE                        []uint16 // forward secrecy for children; nil: none
	Lifetime                  protect.Lifetime
	IKE                       *ikev2.Override // nil: the host's defaults
	Liveness                  time.Duration   // 0: the host's default
}

// selfAt is Self with an ID: whoever has not been told one asserts the address that is used.
func (c *Peer) selfAt(local netip.Addr) ikev2.Local {
	self := c.Self
	if self.ID.IsZero() {
		self.ID = identity.AddrID(local)
	}
	return self
}

// sameTraffic reports whether SAs for o serve c too.
func (c *Peer) sameTraffic(o *Peer) bool {
	return c.Mode == o.Mode && c.Local == o.Local && slices.Equal(c.InsideLocal, o.InsideLocal) && slices.Equal(c.InsideRemote, o.InsideRemote)
}

// equal reports whether o is configured in the same way. Certificates that were made for the occasion always differ.
func (c *Peer) equal(o *Peer) bool {
	a, b := *c, *o
	if a.Self.Key.Public == b.Self.Key.Public {
		if len(a.Self.Above)+len(b.Self.Above) == 0 {
			a.Self.Certificate, b.Self.Certificate = nil, nil
		}
		a.Self.Key, b.Self.Key = identity.Signer{}, identity.Signer{}
	}
	return reflect.DeepEqual(a, b)
}

func (c *Peer) tunnel() bool { return c.Mode == protect.Tunnel }

// prefixes are the destinations whose traffic belongs to the peer.
func (c *Peer) prefixes() []netip.Prefix {
	if !c.tunnel() {
		return []netip.Prefix{netip.PrefixFrom(c.Remote, c.Remote.BitLen())}
	}
	return c.InsideRemote
}

func (c *Peer) selectors(local netip.Addr) (l, r selector.Set) {
	if !c.tunnel() {
		return selector.Set{selector.Host(local)}, selector.Set{selector.Host(c.Remote)}
	}
	for _, p := range c.InsideLocal {
		l = append(l, selector.Prefix(p))
	}
	for _, p := range c.InsideRemote {
		r = append(r, selector.Prefix(p))
	}
	return l, r
}
