package flow

import (
	"net/netip"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// PairID names an inbound and an outbound SA that were made together: a child SA. It is never on the wire.
type PairID uint64

// Spec describes a pair.
type Spec struct {
	ID      PairID
	Suite   protect.Suite
	Mode    protect.Mode
	SPIIn   uint32
	SPIOut  uint32
	KeysIn  protect.Keys
	KeysOut protect.Keys
	// Local and Remote are the selectors of packets as this host sees them.
	Local, Remote selector.Set
	// OuterLocal and OuterRemote are where ESP goes; with ports when Encap (RFC 3948).
	OuterLocal, OuterRemote netip.AddrPort
	Encap                   bool
	// SawLocal and SawRemote are the peer's view of both addresses; when valid and different, inbound transport-mode
	// checksums are repaired (RFC 3948 §3.1.2).
	SawLocal, SawRemote netip.Addr
	// PeerMoves allows the remote address to follow authentic packets (the peer is behind a NAT).
	PeerMoves  bool
	Marks      protect.Marks  // of the outer header
	Soft, Hard protect.Limits // by packets and bytes; time is not the plane's
	// Window is the replay window in packets; 0 is the default of package esp.
	Window int
}

// State is the disposition of a prefix.
type State uint8

const (
	Clear   State = iota // not protected, and none of the plane's business
	Upgrade              // outbound is protected, and waits where no SA sends yet; inbound clear packets still pass (design: at most two seconds)
	Protect              // outbound is protected or dropped; inbound clear packets are dropped
	Hold                 // outbound waits for an SA in a bounded queue; inbound clear packets are dropped
	Closed               // nothing passes either way in clear, and there is no SA to expect soon
)

// Action is what to do with a packet.
type Action uint8

const (
	Pass   Action = iota + 1 // leave it alone
	Seal                     // outbound: protect it under Verdict.Pair
	Queue                    // outbound: hold it and raise an acquire
	Accept                   // inbound: deliver it
	Drop
)

// Reason says why a packet was dropped. Each is counted (RFC 4301 §4.4.2.1, RFC 4303 §3.4).
type Reason uint8

const (
	NoReason     Reason = iota
	Malformed           // not an IP packet that can be read
	NoSA                // outbound: protected prefix without a pair for these selectors
	PrefixClosed        // outbound: Closed
	UnknownSPI          // inbound ESP
	Replayed            // RFC 4303 §3.4.3
	BadICV              // RFC 4303 §3.4.4
	BadPadding          // after a good ICV
	BadSelector         // opened packet is not what its SA allows (RFC 4301 §5.2)
	BadMode             // tunnel packet on a transport SA or the reverse
	ClearRefused        // inbound clear packet that should have been protected
	Fragmented          // fragment where a whole packet is needed
	TooBig              // answered with ICMP too-big
	SpentSA             // sequence numbers or a hard limit exhausted
	QueueFull           // held packets
	EcnDrop             // RFC 6040 §4.2: Not-ECT inside CE
	Dummy               // next header 59: no error (RFC 4303 §2.6)
	SendFailed          // the system refused to send
	Discarded           // a rule says so (RFC 4301 §4.4.1), or none is about the packet
	reasons
)

// Reasons is how many there are, for arrays of counters.
const Reasons = int(reasons)

func (r Reason) String() string {
	names := [...]string{
		"", "malformed", "no-sa", "closed", "unknown-spi", "replayed", "bad-icv", "bad-padding", "bad-selector", "bad-mode",
		"clear-refused", "fragment", "too-big", "spent-sa", "queue-full", "ecn", "dummy", "send-failed", "discarded",
	}
	if int(r) < len(names) {
		return names[r]
	}
	return "unknown"
}
