package config

import (
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/trust"
)

// Host is what a host is started with. Its own key, its records and what depends on the plane are filled in by whoever
// has them.
func (c *Config) Host() host.Config {
	h := host.Config{
		Policy: c.Policy, Anchors: c.Anchors, Certified: c.Certified, Listen: c.Listen, Trust: trust.Config{Mode: c.Trust, Recycled: c.Recycled}, Probe: probe.Config{Scope: c.Probe},
		IKE: ikev2.Config{IKE: ikev2.DefaultProposals(c.aes)},
	}
	for i := range c.Peers {
		h.Peers = append(h.Peers, c.Peers[i].host())
	}
	return h
}

func (p *Peer) host() host.Peer {
	h := host.Peer{
		Name: p.Name, Local: p.Local, Remote: p.Remote, Self: p.self(),
		Mode: p.Mode, InsideLocal: p.InsideL, InsideRemote: p.InsideR,
		Childless: p.Childless, Offer: p.ESP, KE: p.KE, Lifetime: p.Lifetime,
	}
	switch p.Start {
	case OnDemand:
		h.Start = host.StartOnDemand
	case Up:
		h.Start = host.StartUp
	case Listen:
		h.Start = host.StartListen
	}
	o := ikev2.Override{Lifetime: p.IKELife, Liveness: p.Liveness}
	for _, s := range p.IKE {
		o.IKE = append(o.IKE, ikev2.ProposalOf(s))
	}
	h.IKE = &o
	return h
}

func (p *Peer) self() ikev2.Local {
	l := ikev2.Local{ID: p.LocalID, SendKey: p.SendKey, Certificate: p.Cert, Above: p.Above}
	switch p.Auth {
	case PSK:
		l.Method, l.PSK = ikev2.SharedKey, p.Secret
	case Null:
		l.Method = ikev2.Null
	default:
		l.Method = ikev2.Signature
		if p.OwnKey {
			l.Key = p.Key
		}
	}
	return l
}
