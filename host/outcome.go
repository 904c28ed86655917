package host

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/trust"
)

// outcome is what came of an attempt.
type outcome struct {
	at     time.Time
	reason Reason
	why    string
	notify wire.NotifyType // that was answered, or zero
}

// outcomeOf says in words why an attempt came to nothing. closed says that an ICMP message called the port closed.
func outcomeOf(err error, closed bool) outcome {
	var silent *ikev2.NoAnswerError
	var refused *ikev2.RefusedError
	var broken *ikev2.ProtocolError
	switch {
	case err == nil:
		return outcome{reason: GivenUp, why: "the attempt was given up"}
	case errors.As(err, &silent):
		return outcomeOfSilence(silent, closed)
	case errors.As(err, &refused):
		return outcomeOfRefusal(refused)
	case errors.As(err, &broken):
		return outcome{reason: BadPeer, why: "the IKE exchange failed: " + broken.What, notify: wire.NotifyType(broken.Notify)}
	}
	return outcome{reason: refusalOf(err), why: err.Error()}
}

func outcomeOfSilence(e *ikev2.NoAnswerError, closed bool) outcome {
	switch {
	case e.Began:
		return outcome{reason: NoFurther, why: fmt.Sprintf("it answered the first IKE message, and nothing after that (%s to port %d)", plural(uint64(e.Sent), "datagram"), e.Remote.Port())}
	case closed:
		return outcome{reason: PortClosed, why: "an ICMP message says that nothing listens on its IKE port"}
	}
	return outcome{reason: NoAnswer, why: fmt.Sprintf("no answer to %s", plural(uint64(e.Sent), "IKE datagram"))}
}

func outcomeOfRefusal(e *ikev2.RefusedError) outcome {
	o := outcome{notify: wire.NotifyType(e.Notify)}
	switch {
	case e.Authenticated:
		o.reason, o.why = PeerRejects, fmt.Sprintf("the peer refused: it answered %v", o.notify)
	case incompatible(o.notify):
		o.reason, o.why = NoProposal, fmt.Sprintf("it speaks IKE, but nothing that we offered: it answered %v, without proof that it was the peer", o.notify)
	default:
		o.reason, o.why = PeerError, fmt.Sprintf("it answered %v, without proof that it was the peer", o.notify)
	}
	return o
}

// incompatible reports whether an error says that the two have no version, algorithm or method in common.
func incompatible(t wire.NotifyType) bool {
	switch t {
	case wire.NoProposalChosen, wire.InvalidKEPayload, wire.InvalidMajorVersion, wire.UnsupportedCriticalPayload:
		return true
	}
	return false
}

// refusalOf is the code of an error of policy or trust.
func refusalOf(err error) Reason {
	var changed *trust.KeyChangedError
	var unknown *trust.UnknownKeyError
	var downgrade *trust.DowngradeError
	var revoked *trust.RevokedKeyError
	var child *policy.ChildError
	var certificate *chain.Error
	switch {
	case errors.As(err, &certificate):
		return certificateReason(certificate.Fault)
	case errors.Is(err, policy.ErrNoChain):
		return NoCertificate
	case errors.As(err, &revoked):
		return RevokedKey
	case errors.As(err, &changed):
		return Changed
	case errors.As(err, &unknown) && unknown.Mode == trust.Ask:
		return KeyWaits
	case errors.As(err, &unknown):
		return UnknownKey
	case errors.As(err, &downgrade):
		return NoKey
	case errors.As(err, &child):
		return ChildOutside
	case errors.Is(err, errFlood):
		return Flood
	case errors.Is(err, errCrowded):
		return Crowded
	case errors.Is(err, errStopping):
		return Stopping
	case errors.Is(err, errOtherPeer):
		return WrongAnswer
	case errors.Is(err, policy.ErrWrongKey), errors.Is(err, policy.ErrMethod), errors.Is(err, policy.ErrNoKey):
		return WrongKey
	case errors.Is(err, policy.ErrNoEntry), errors.Is(err, policy.ErrNoNull), errors.Is(err, policy.ErrNoUnknown):
		return NotInPAD
	}
	return BadPeer
}

// probed is what package probe remembers of an outcome; false: the attempt says nothing about the address.
func (o outcome) probed() (probe.Result, bool) {
	switch o.reason {
	case GivenUp, Stopping:
		return 0, false
	case NoAnswer, NoFurther:
		return probe.Silent, true
	case PortClosed:
		return probe.Refuses, true
	case NoProposal, PeerError, PeerRejects, BadPeer:
		return probe.Incompatible, true
	case NoRoute, OwnAddress:
		return probe.Unreachable, true
	}
	return probe.Unwanted, true
}

// reasonOf is the code for what package probe remembers of an address.
func reasonOf(s probe.Status) Reason {
	switch s.Result {
	case probe.Silent:
		return NoAnswer
	case probe.Refuses:
		return PortClosed
	case probe.Unreachable:
		return NoRoute
	case probe.Unwanted:
		return NotInPAD
	case probe.Incompatible:
		if s.Notify != 0 && !incompatible(wire.NotifyType(s.Notify)) {
			return PeerError
		}
		if s.Notify == 0 {
			return BadPeer
		}
		return NoProposal
	}
	return ""
}

// conclude remembers what came of an attempt, with the peer and for when that is forgotten.
func (h *Host) conclude(now time.Time, p *peer, o outcome) {
	o.at = now
	p.suffers(func(t *trouble) { t.last, t.closed = o, false })
	if r, ok := o.probed(); ok {
		h.probes.Note(now, p.addr, r, uint16(o.notify))
	}
}

// portClosed is a hint that anybody can forge: it names the result of an attempt under way that gets no answer, and
// changes nothing else (BTNS-CORE-68).
func (h *Host) portClosed(remote netip.Addr) {
	if p := h.peers[remote]; p != nil && p.attempt != 0 {
		p.suffers(func(t *trouble) { t.closed = true })
	}
}
