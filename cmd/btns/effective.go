package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/btns-ipsec/btns/config"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/protect"
)

// What a configuration means, in words and as JSON. No secret is in either.

// effective is one line of `btns config show --json`: a setting, an entry of the SPD or PAD, a peer, or a warning.
type effective struct {
	Kind         string   `json:"kind"` // "setting", "spd", "pad", "peer", "warning"
	Name         string   `json:"name,omitempty"`
	Value        string   `json:"value,omitempty"`  // of a setting; the text of a warning
	Source       string   `json:"source,omitempty"` // file and line
	Local        string   `json:"local,omitempty"`
	Remote       string   `json:"remote,omitempty"`
	Action       string   `json:"action,omitempty"`
	Mode         string   `json:"mode,omitempty"`
	Fallback     string   `json:"fallback,omitempty"`
	Waiting      string   `json:"waiting,omitempty"`
	Peer         string   `json:"peer,omitempty"`
	BtnsOK       bool     `json:"btns_ok,omitempty"`
	NullOK       bool     `json:"null_ok,omitempty"`
	MinAssurance string   `json:"min_assurance,omitempty"`
	Offer        []string `json:"esp,omitempty"`
	Rekey        float64  `json:"rekey_seconds,omitempty"`
	Lifetime     float64  `json:"lifetime_seconds,omitempty"`
	Match        string   `json:"match,omitempty"` // how an entry of the PAD tells its peers
	Auth         string   `json:"auth,omitempty"`
	ID           string   `json:"id,omitempty"`       // that the peer has to prove
	CA           []string `json:"ca,omitempty"`       // files with the authorities that may prove it
	LocalID      string   `json:"local_id,omitempty"` // what the peer is told; empty: the address that is used
}

func effectiveOf(c *config.Config) []effective {
	out := []effective{
		{Kind: "setting", Name: "plane", Value: string(c.Plane)},
		{Kind: "setting", Name: "state", Value: or(c.State, defaultState())},
		{Kind: "setting", Name: "socket", Value: or(c.Socket, defaultSocket())},
		{Kind: "setting", Name: "listen", Value: or(listText(c.Listen), "all addresses")},
		{Kind: "setting", Name: "log.format", Value: c.Log.Format},
		{Kind: "setting", Name: "log.level", Value: c.Log.Level},
		{Kind: "setting", Name: "probe", Value: probeText(c.Probe)},
		{Kind: "setting", Name: "trust", Value: c.Trust.String()},
		{Kind: "setting", Name: "recycled", Value: or(listText(c.Recycled), "none")},
		{Kind: "setting", Name: "certificate", Value: certificateText(c)},
	}
	for i := range c.Policy.SPD() {
		out = append(out, effectiveEntry(&c.Policy.SPD()[i]))
	}
	for i := range c.Policy.PAD() {
		e := &c.Policy.PAD()[i]
		out = append(out, effective{Kind: "pad", Name: e.Name, Match: e.Kind.String(), Remote: constraintText(e), ID: e.IDText(), CA: e.Anchors})
	}
	for i := range c.Peers {
		p := &c.Peers[i]
		out = append(out, effective{
			Kind: "peer", Name: p.Name, Local: addrText(p.Local), Remote: remoteText(p), Mode: modeName(p), Auth: authName(p.Auth),
			ID: peerID(p), CA: p.Anchors, LocalID: localID(p),
			Offer: suites(p.ESP), Rekey: p.Lifetime.Soft.Time.Seconds(), Lifetime: p.Lifetime.Hard.Time.Seconds(),
		})
	}
	for _, w := range append(c.Warnings, c.Lint()...) {
		out = append(out, effective{Kind: "warning", Value: w})
	}
	return out
}

func effectiveEntry(e *policy.Entry) effective {
	v := effective{Kind: "spd", Name: e.Name, Source: e.Source, Local: e.Local.String(), Remote: e.Remote.String(), Action: e.Action.String()}
	if e.Action != policy.Protect {
		return v
	}
	v.Mode, v.Fallback, v.Waiting, v.Peer, v.BtnsOK, v.NullOK = modeText(e.Mode), e.Fallback.String(), e.Waiting.String(), e.Peer, e.BtnsOK, e.NullOK
	v.Offer, v.Rekey, v.Lifetime = suites(e.Offer), e.Lifetime.Soft.Time.Seconds(), e.Lifetime.Hard.Time.Seconds()
	if e.MinAssurance != 0 {
		v.MinAssurance = e.MinAssurance.String()
	}
	return v
}

// entryText is an entry of the SPD in words.
func entryText(e *policy.Entry) string {
	text := fmt.Sprintf("%s: %v", e.Name, e.Action)
	if e.Action == policy.Protect {
		text += fmt.Sprintf(", %v; fallback %v, waiting packets %v; btns_ok %v, null_ok %v", modeText(e.Mode), e.Fallback, e.Waiting, e.BtnsOK, e.NullOK)
		if e.Peer != "" {
			text += fmt.Sprintf("; peer %q only", e.Peer)
		}
		if e.MinAssurance != 0 {
			text += fmt.Sprintf("; at least %v", e.MinAssurance)
		}
	}
	text += fmt.Sprintf("\n       %v <-> %v", e.Local, e.Remote)
	if e.Source != "" {
		text += " (" + e.Source + ")"
	}
	if e.Action == policy.Protect {
		text += fmt.Sprintf("\n       %s; new keys after %v, at the latest %v", strings.Join(suites(e.Offer), ", "), e.Lifetime.Soft.Time, e.Lifetime.Hard.Time)
	}
	return text
}

func padText(e *policy.PADEntry) string {
	text := e.String()
	if id := e.IDText(); id != "" {
		text += " " + id
	}
	if len(e.Anchors) > 0 {
		text += ", by a certificate under " + strings.Join(e.Anchors, " or ")
	}
	return text + "; may have " + constraintText(e)
}

// constraintText is which addresses the peers of an entry may have.
func constraintText(e *policy.PADEntry) string {
	const here = "the address that it speaks from"
	switch {
	case e.Here && e.Constraint == nil:
		return here
	case e.Here:
		return e.Constraint.String() + ", and of it " + here
	case e.Constraint != nil:
		return e.Constraint.String()
	case e.Kind == policy.ByID:
		return "any address"
	}
	return here
}

func peerText(p *config.Peer) string {
	text := fmt.Sprintf("peer %s at %s, %s, auth %s", p.Name, remoteText(p), or(modeName(p), "any")+" mode", authName(p.Auth))
	if p.Auth == config.X509 {
		text += fmt.Sprintf(", id %s, certified by %s; we are %s", peerID(p), strings.Join(p.Anchors, " or "), localID(p))
	}
	if p.Local.IsValid() {
		text += fmt.Sprintf(", from %v", p.Local)
	}
	if p.Mode == protect.Tunnel {
		text += fmt.Sprintf("\n       %s <-> %s", listText(p.InsideL), listText(p.InsideR))
	}
	return text
}

func remoteText(p *config.Peer) string {
	if !p.Remote.IsValid() {
		return "any address"
	}
	return p.Remote.String()
}

// modeName is the mode of a peer; one without an address has what the policy says.
func modeName(p *config.Peer) string {
	if !p.Remote.IsValid() {
		return ""
	}
	return p.Mode.String()
}

func peerID(p *config.Peer) string {
	switch {
	case !p.IDs.IsZero():
		return p.IDs.String()
	case !p.RemoteID.IsZero():
		return p.RemoteID.String()
	}
	return ""
}

func localID(p *config.Peer) string {
	if p.LocalID.IsZero() {
		return ""
	}
	return p.LocalID.String()
}

func authName(a config.Auth) string {
	return map[config.Auth]string{config.X509: "x509", config.RawKey: "rawkey", config.SelfSigned: "selfsigned", config.PSK: "psk", config.Null: "null"}[a]
}

// modeText is a mode; without one it is the peer's choice.
func modeText(m protect.Mode) string {
	if m == 0 {
		return "any mode"
	}
	return m.String()
}

// certificateText is what the certificate of the host proves.
func certificateText(c *config.Config) string {
	if c.Certified.Own == nil {
		return "none"
	}
	return c.Certified.Own.Names()
}

func probeText(s probe.Scope) string {
	switch s.Mode {
	case probe.All:
		return "all"
	case probe.Local:
		return "local"
	}
	return or(listText(s.List), "none")
}

func suites(offer []protect.Suite) (out []string) {
	for _, s := range offer {
		out = append(out, s.String())
	}
	return out
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func listText[T fmt.Stringer](list []T) string {
	var out []string
	for _, x := range list {
		out = append(out, x.String())
	}
	return strings.Join(out, ", ")
}
