package control

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

func statusOf(version string, v host.StatusView, plane dataplane.Info) Status {
	s := Status{
		Version: version, Plane: plane.Name, Device: plane.Device, MTU: plane.MTU,
		Name: nameOf(v.Key), Since: v.Since.UTC(),
		Protected: v.Protected, Probing: v.Probing, Clear: v.Clear, Refused: v.Refused, Outage: v.Outage,
		IKESAs: v.IKESAs, HalfOpen: v.HalfOpen, Children: v.Children, Pins: v.Pins,
		Drops: v.Drops, Probes: Probes(v.Probes),
	}
	for _, c := range v.ClearBy {
		s.ClearBy = append(s.ClearBy, Cleared{Entry: c.Entry, Source: c.Source, OutPackets: c.Packets, OutBytes: c.Bytes})
	}
	s.Problems = append(append(s.Problems, plane.Problems...), v.Problems...)
	s.Working = len(s.Problems) == 0
	return s
}

func peerOf(v host.PeerView) Peer {
	p := Peer{
		Addr: addrOf(v.Addr), Label: v.Name, State: string(v.State), SAs: len(v.Children),
		Since: timeOf(v.Since), Name: nameOf(v.Key), Method: v.Method, FirstSeen: timeOf(v.FirstSeen),
		IKE: v.IKE, Initiator: v.Initiator, Btns: v.Btns, NAT: v.NAT, Reason: string(v.Reason), Why: v.Why, Hint: v.Hint,
	}
	if !v.Key.IsZero() {
		p.Words = v.Key.Words()
	}
	if !v.ID.IsZero() {
		p.ID = v.ID.String()
	}
	if v.State == host.StateProtected {
		p.Assurance = v.Assurance.String()
	}
	for _, c := range v.Children {
		p.InBytes += c.Counters.BytesIn
		p.OutBytes += c.Counters.BytesOut
		p.Children = append(p.Children, childOf(c))
	}
	return p
}

func childOf(c host.ChildView) Child {
	return Child{
		SPIIn: fmt.Sprintf("%08x", c.SPIIn), SPIOut: fmt.Sprintf("%08x", c.SPIOut),
		Suite: c.Suite.String(), Mode: c.Mode.String(), Local: c.Local, Remote: c.Remote,
		Encap: c.Encap, Sending: c.Sending, Since: timeOf(c.Since),
		InPackets: c.Counters.PacketsIn, OutPackets: c.Counters.PacketsOut,
		InBytes: c.Counters.BytesIn, OutBytes: c.Counters.BytesOut, InDrops: c.Counters.Drops,
	}
}

func pinOf(r trust.Record) Pin {
	p := Pin{
		Addr: addrOf(r.Addr), Name: nameOf(r.Key), Words: r.Key.Words(), Assurance: r.Assurance.String(),
		FirstSeen: timeOf(r.FirstSeen), LastSeen: timeOf(r.LastSeen), Sticky: r.Sticky,
		Host: r.Name, Network: r.Network, Sessions: r.Sessions, Revoked: timeOf(r.Revoked),
	}
	for _, e := range r.Evidence {
		p.Evidence = append(p.Evidence, Evidence{string(e.Kind), e.At.UTC()})
	}
	return p
}

func explanationOf(x host.Explanation) Explanation {
	e := Explanation{
		Addr: addrOf(x.Addr), Port: x.Port, Entry: x.Entry, Source: x.Source, State: string(x.State),
		Reason: string(x.Reason), Why: x.Why, Story: x.Story(), Hint: x.Hint,
	}
	for _, s := range x.Steps {
		e.Steps = append(e.Steps, Step{s.Name, s.Text})
	}
	return e
}

func waitedOf(addr netip.Addr, v host.PeerView) Waited {
	w := Waited{Addr: addrOf(addr), State: string(v.State), Protected: v.State == host.StateProtected, Name: nameOf(v.Key), Reason: string(v.Reason), Why: v.Why, Hint: v.Hint}
	if w.Protected {
		w.Assurance = v.Assurance.String()
	}
	return w
}

func eventOf(r host.Report, suppressed uint64) Event {
	return Event{
		Time: r.Time.UTC(), Kind: string(r.Kind), Level: levelOf(r.Level), Addr: addrOf(r.Remote), Name: nameOf(r.Key),
		Text: r.Text, Hint: r.Hint, Reason: string(r.Reason), Suppressed: suppressed,
	}
}

func levelOf(l host.Level) string {
	names := [...]string{"debug", "info", "warn", "alarm"}
	if int(l) < len(names) {
		return names[l]
	}
	return "alarm"
}

func addrOf(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func nameOf(f identity.Fingerprint) string {
	if f.IsZero() {
		return ""
	}
	return f.String()
}

// timeOf leaves out what is unknown.
func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
