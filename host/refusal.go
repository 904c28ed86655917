package host

import (
	"errors"
	"fmt"
	"time"

	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/trust"
)

// tellRefusal tells the operator why trust turned a peer away, and what to do; not again what was told a moment ago
// (BTNS-TRUST-33).
func (h *Host) tellRefusal(now time.Time, s *session, who ikev2.Peer, v trust.Verdict) {
	addr := s.remote.Addr()
	r := Report{Kind: PeerRefused, Level: Warn, Remote: addr, Key: who.Key.Fingerprint(), Text: v.Refuse.Error(), Reason: refusalOf(v.Refuse)}
	var changed *trust.KeyChangedError
	var unknown *trust.UnknownKeyError
	var downgrade *trust.DowngradeError
	var revoked *trust.RevokedKeyError
	switch {
	case errors.As(v.Refuse, &changed):
		r.Kind, r.Level = KeyChanged, Alarm
		host, asked := addr.String(), addr.String()
		if changed.Name != "" {
			host, asked = fmt.Sprintf("%s (%v)", changed.Name, addr), changed.Name
		}
		r.Text = fmt.Sprintf("THE KEY OF %v HAS CHANGED, so it is refused. Recorded since %s: %v. Offered now: %v. "+
			"Somebody may be posing as this peer, or it was re-installed.", host, changed.Since.Format(time.DateOnly), changed.Want, changed.Got)
		r.Hint = fmt.Sprintf("compare the new key with `btns id` on that host over another channel; if it is right: btns trust accept %v %v", asked, changed.Got)
	case errors.As(v.Refuse, &unknown):
		r.Text = fmt.Sprintf("the key of %v is not known, and the trust mode is %v: %v", addr, unknown.Mode, unknown.Got)
		r.Hint = fmt.Sprintf("after comparing it: btns trust accept %v %v", addr, unknown.Got)
		if unknown.Mode == trust.Ask && h.await(now, s) {
			r.Text = fmt.Sprintf("the key of %v waits for your word, and so do packets: %v", addr, unknown.Got)
		}
	case errors.As(v.Refuse, &downgrade):
		r.Kind, r.Level = KeyChanged, Alarm
		r.Text = fmt.Sprintf("%v came without a key, but %v is recorded for it: refused", addr, downgrade.Want)
		r.Hint = fmt.Sprintf("if that host has no key any more: btns trust forget %v", addr)
	case errors.As(v.Refuse, &revoked):
		r.Kind, r.Level = KeyRevoked, Alarm
		r.Text = fmt.Sprintf("%v CAME WITH A REVOKED KEY, so it is refused: %v, revoked on %s. Somebody may have stolen it.",
			addr, revoked.Key, revoked.Since.Format(time.DateOnly))
		r.Hint = RevokedKey.Meaning().Hint
	}
	if !v.Quiet {
		h.report(now, r)
	}
	if p := h.peers[addr]; p != nil && len(p.sessions) == 0 {
		h.enterFor(now, p, StateRefused, r.Reason, r.Text, r.Hint)
	}
}

// tellOtherAddress tells that a peer has the key of its name, and its address had another one (BTNS-TRUST-13).
func (h *Host) tellOtherAddress(now time.Time, s *session, warn *trust.KeyChangedError) {
	h.report(now, Report{
		Kind: KeyChanged, Level: Warn, Remote: s.remote.Addr(), Key: warn.Got, Reason: OtherAddress,
		Text: fmt.Sprintf("the key of this peer is right for its name, and another one is recorded for %v since %s: %v",
			warn.Addr, warn.Since.Format(time.DateOnly), warn.Want),
	})
}

func refusedByTrust(err error) bool {
	var changed *trust.KeyChangedError
	var unknown *trust.UnknownKeyError
	var downgrade *trust.DowngradeError
	var revoked *trust.RevokedKeyError
	return errors.As(err, &changed) || errors.As(err, &unknown) || errors.As(err, &downgrade) || errors.As(err, &revoked)
}
