package policy

import (
	"fmt"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Action is what an SPD entry does with its traffic (RFC 4301 §4.4.1).
type Action uint8

const (
	Bypass Action = iota + 1
	Discard
	Protect
)

func (a Action) String() string {
	switch a {
	case Bypass:
		return "bypass"
	case Discard:
		return "discard"
	case Protect:
		return "protect"
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}

// Fallback is what a PROTECT entry means for a peer that cannot, or will not, protect. RFC 5386 knows Require only
// (BTNS-CORE-25).
type Fallback uint8

const (
	Require Fallback = iota // its traffic is dropped
	Prefer                  // its traffic goes in clear, unless package trust says that it was once protected
	Never                   // as Prefer, and this host never begins: it protects when the peer begins
)

func (f Fallback) String() string {
	switch f {
	case Require:
		return "require"
	case Prefer:
		return "prefer"
	case Never:
		return "never"
	}
	return fmt.Sprintf("fallback(%d)", uint8(f))
}

// Waiting is what becomes of packets while SAs are negotiated.
type Waiting uint8

const (
	Hold Waiting = iota // they are queued, within bounds
	Pass                // they go in clear; meaningless under Require
)

func (w Waiting) String() string {
	if w == Pass {
		return "pass"
	}
	return "hold"
}

// PFP says which selectors of a new SA are taken from the packet that asks for it instead of from the entry (populate from
// packet, RFC 4301 §4.4.1.1). For ICMP type and code are the ports.
type PFP uint8

const (
	PFPLocalAddr PFP = 1 << iota
	PFPRemoteAddr
	PFPProto
	PFPLocalPort
	PFPRemotePort

	PFPAll = PFPLocalAddr | PFPRemoteAddr | PFPProto | PFPLocalPort | PFPRemotePort // one SA for each flow
)

// Entry is one entry of the SPD. The first that matches a packet decides.
type Entry struct {
	Name   string
	Source string // where it was written, such as "btns.toml:12"; empty for built-in ones

	Local, Remote selector.Set
	Action        Action

	// The rest is for Protect only.

	Mode            protect.Mode // 0: as the peer asks
	Peer            string       // name of the PAD entry that alone may use it; empty: see BtnsOK and NullOK
	BtnsOK          bool         // peers known by nothing but a key may use it (BTNS-CORE-20)
	NullOK          bool         // peers without even a key may use it (BTNS-NULL-12)
	BtnsFallthrough bool         // a peer that may not use it is served by later entries (BTNS-CORE-22)
	MinAssurance    identity.Assurance
	Fallback        Fallback
	Inbound         Word // WordRequire, WordPrefer or WordAccept for what comes in; empty: as Fallback says for what goes out
	Waiting         Waiting
	PFP             PFP
	Marks           protect.Marks
	Offer           []protect.Suite
	KE              []uint16 // forward secrecy of further children, by key exchange method; nil: none
	Lifetime        protect.Lifetime
}

// noEntry is what traffic meets that no entry matches (RFC 4301 §5.1).
var noEntry = &Entry{Name: "no entry matches", Action: Discard}

// Decision is the entry that decides about a packet.
type Decision struct{ *Entry }

// Outbound returns the entry that decides about a packet to be sent.
func (p *Policy) Outbound(f selector.Flow) Decision {
	for i := range p.spd {
		if e := &p.spd[i]; selector.Match(e.Local, e.Remote, f) {
			return Decision{e}
		}
	}
	return Decision{noEntry}
}

// InboundClear reports whether the SPD lets a clear packet in (RFC 4301 §5.2). Peers that must be protected because they
// once were are not its business.
func (p *Policy) InboundClear(f selector.Flow) bool {
	w := p.Outbound(f).Word(In)
	return w != WordDiscard && w != WordRequire
}

// InboundProtected reports whether the SPD lets a packet in that an SA of ref carried (BTNS-CORE-23). The selectors of
// the SA itself are checked elsewhere.
func (p *Policy) InboundProtected(f selector.Flow, ref PeerRef) bool {
	for i := range p.spd {
		e := &p.spd[i]
		if !selector.Match(e.Local, e.Remote, f) {
			continue
		}
		switch e.Action {
		case Bypass:
			return true // more protection than asked for
		case Discard:
			return false
		case Protect:
			switch ref.may(e) {
			case may:
				return true
			case blocked:
				return false
			case passedOver:
			}
		}
	}
	return false
}

// DefaultOffer is the suites of an entry that names none. The cipher that the processor is fast at comes first;
// AES-CBC is there for peers that know nothing else.
func DefaultOffer(aes bool) []protect.Suite {
	gcm := []protect.Suite{
		{Encr: protect.AESGCM16, KeyBits: 128, ESN: true}, {Encr: protect.AESGCM16, KeyBits: 256, ESN: true},
	}
	chacha := protect.Suite{Encr: protect.ChaCha20Poly1305, KeyBits: 256, ESN: true}
	cbc := []protect.Suite{
		{Encr: protect.AESCBC, KeyBits: 128, Integ: protect.HMACSHA256, ESN: true},
		{Encr: protect.AESCBC, KeyBits: 256, Integ: protect.HMACSHA256, ESN: true},
	}
	if aes {
		return append(append(gcm, chacha), cbc...)
	}
	return append(append([]protect.Suite{chacha}, gcm...), cbc...)
}

// DefaultLifetime is the lifetime of SAs of an entry that names none.
func DefaultLifetime() protect.Lifetime {
	return protect.Lifetime{
		Soft:   protect.Limits{Time: time.Hour, Bytes: 1 << 38, Packets: 1 << 34},
		Hard:   protect.Limits{Time: 70 * time.Minute, Bytes: 1 << 39, Packets: 1 << 35},
		Jitter: 6 * time.Minute,
	}
}
