package host

import (
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/policy"
)

// DefaultHold is how long packets to an unknown host wait, where the policy lets them wait and lets them go in clear
// afterwards: an answer that comes at all mostly comes within it.
const DefaultHold = 2 * time.Second

// turn tries an address whose turn has come, if that is still wanted.
func (h *Host) turn(now time.Time, addr netip.Addr) {
	d := h.policy.Outbound(flowTo(netip.Addr{}, addr))
	if d.Action != policy.Protect || d.Fallback == policy.Never || h.stopping {
		return
	}
	p := h.peerAt(now, addr)
	h.attempt(now, p, nil)
	h.forgetIdle(now, p)
}

// beginProbe is for an attempt with a host that need not be protected: meanwhile its traffic goes on in clear, or waits
// for a while, as the policy says.
func (h *Host) beginProbe(now time.Time, p *peer) {
	const text = "trying whether the peer speaks IKE"
	if h.policy.Outbound(flowTo(p.local, p.addr)).Waiting != policy.Hold {
		h.enter(now, p, StateProbing, text, "")
		return
	}
	h.enter(now, p, StateNegotiating, text+"; packets wait for a moment", "")
	hold := h.cfg.Hold
	if hold <= 0 {
		hold = DefaultHold
	}
	until := now.Add(hold)
	p.suffers(func(t *trouble) { t.heldUntil = until })
	h.alarms.add(until, endHold, p.addr, 0)
}

// holdEnds lets packets go that have waited long enough. The attempt goes on.
func (h *Host) holdEnds(now time.Time, p *peer) {
	if until := p.trouble().heldUntil; until.IsZero() || now.Before(until) {
		return
	}
	p.suffers(func(t *trouble) { t.heldUntil = time.Time{} })
	if p.attempt != 0 && p.state == StateNegotiating && !h.required(now, p) {
		h.enter(now, p, StateProbing, "no answer so far, so packets go in clear; the attempt goes on", "")
	}
}

// noSource is told that no packet can leave for p, or that p is this host.
func (h *Host) noSource(now time.Time, p *peer, ev SourceFound) {
	o := outcome{reason: OwnAddress, why: "this is an address of this host itself"}
	if ev.Err != nil {
		o = outcome{reason: NoRoute, why: "no route: " + ev.Err.Error()}
	}
	h.conclude(now, p, o)
	p.accepted = false
	if ev.Err == nil || !h.required(now, p) {
		h.enterFor(now, p, StateClear, o.reason, o.why, "")
		h.forgetIdle(now, p)
		return
	}
	p.failed(now)
	h.enterFor(now, p, StateOutage, o.reason, o.why, "check the routes of this host")
	h.fallSilent(now, p)
	h.alarms.add(p.trouble().retryAt, tryAgain, p.addr, 0)
}
