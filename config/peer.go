package config

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// peer reads one [[peer]] and adds its PAD and SPD entries.
func (r *reader) peer(key string, f *filePeer) Peer {
	p := Peer{
		Name: f.Name,
		Credentials: Credentials{
			Auth:    oneOf(r, key+".auth", f.Auth, 0, map[string]Auth{"rawkey": RawKey, "selfsigned": SelfSigned, "psk": PSK, "null": Null, "x509": X509}),
			LocalID: r.id(key+".local_id", f.LocalID),
		},
		Childless: f.Childless,
		Start:     oneOf(r, key+".start", f.Start, OnDemand, map[string]Start{"on-demand": OnDemand, "up": Up, "listen": Listen}),
		IKE:       r.ike(key+".ike", f.IKE),
		Lifetime:  r.lifetime(key, f.Rekey, f.Lifetime, policy.DefaultLifetime()),
	}
	if p.Name == "" {
		p.Name = cmp.Or(f.Address, f.ID)
	}
	if f.Auth == "" {
		r.fail(key+".auth", `it is missing; write "rawkey", "selfsigned", "psk", "x509" or "null"`)
	}
	r.remoteID(key+".id", f.ID, &p)
	if f.Address == "" {
		r.nowhere(key, f, &p)
	} else {
		p.Remote, _ = r.addr(key+".address", f.Address)
	}
	if f.LocalAddress != "" {
		p.Local, _ = r.addr(key+".local_address", f.LocalAddress)
		if p.Local.IsValid() && p.Remote.IsValid() && p.Local.Is4() != p.Remote.Is4() {
			r.fail(key+".local_address", "it and address are of different families")
		}
		if p.Local.IsValid() && len(r.listen) > 0 && !slices.Contains(r.listen, p.Local) {
			r.fail(key+".local_address", "listen does not have it, so IKE is not spoken there; add %v to listen", p.Local)
		}
	}
	p.ESP, p.KE = r.esp(key+".esp", f.ESP)
	p.Liveness, _ = r.duration(key+".dpd", f.DPD, time.Second)
	if f.IKERekey != "" || f.IKELifetime != "" {
		p.IKELife = r.ikeLifetime(key, f)
	}
	r.inside(key, f, &p)
	r.credentials(key, f, &p)
	if p.LocalID.IsZero() {
		p.LocalID = ownID(&p)
	}
	r.entries(key, &p, r.marks(key, f.DSCP, f.ECN))
	return p
}

func (r *reader) ikeLifetime(key string, f *filePeer) protect.Lifetime {
	l := protect.Lifetime{Soft: protect.Limits{Time: 4 * time.Hour}, Hard: protect.Limits{Time: 5 * time.Hour}, Jitter: 20 * time.Minute}
	if soft, ok := r.duration(key+".ike_rekey", f.IKERekey, time.Second); ok {
		l.Soft.Time, l.Hard.Time, l.Jitter = soft, soft+soft/5, soft/10
	}
	if hard, ok := r.duration(key+".ike_lifetime", f.IKELifetime, time.Second); ok {
		l.Hard.Time = hard
	}
	if l.Hard.Time <= l.Soft.Time {
		r.fail(key+".ike_lifetime", "%v ends before new keys are made at %v; make it longer than ike_rekey", l.Hard.Time, l.Soft.Time)
	}
	return l
}

// inside reads what is protected: prefixes in tunnel mode, the two hosts in transport mode.
func (r *reader) inside(key string, f *filePeer, p *Peer) {
	p.InsideL, p.InsideR = r.prefixes(key+".local", f.Local), r.prefixes(key+".remote", f.Remote)
	p.Mode = protect.Transport
	if len(f.Local)+len(f.Remote) > 0 {
		p.Mode = protect.Tunnel
	}
	p.Mode = oneOf(r, key+".mode", f.Mode, p.Mode, modes)
	switch {
	case p.Mode == protect.Transport && len(f.Local)+len(f.Remote) > 0:
		r.fail(key+".mode", `transport mode is between the two hosts; remove local and remote, or write "tunnel"`)
	case p.Mode == protect.Tunnel && (len(f.Local) == 0 || len(f.Remote) == 0):
		r.fail(key+".mode", "tunnel mode needs local and remote: the prefixes on our side and on the peer's")
	}
}

func (r *reader) credentials(key string, f *filePeer, p *Peer) {
	signs := p.Auth == RawKey || p.Auth == SelfSigned
	x509 := p.Auth == X509
	for name, given := range map[string]bool{
		"key": f.Key != nil, "own_key": f.OwnKey != "" && !x509, "certificate": f.Certificate != "" && !x509, "send_key": f.SendKey != nil,
	} {
		if given && !signs && p.Auth != 0 {
			r.fail(key+"."+name, "it means nothing with auth %q; remove it", f.Auth)
		}
	}
	for name, given := range map[string]bool{"psk": f.PSK != "", "psk_file": f.PSKFile != ""} {
		if given && p.Auth != PSK && p.Auth != 0 {
			r.fail(key+"."+name, "it means nothing with auth %q; remove it", f.Auth)
		}
	}
	if f.CA != nil && !x509 && p.Auth != 0 {
		r.fail(key+".ca", "it means nothing with auth %q; remove it", f.Auth)
	}
	switch {
	case x509:
		r.certifies(key, f, p)
	case signs:
		r.peerKeys(key+".key", f.Key, p)
		r.ownKey(key, f, p)
	case p.Auth == PSK:
		p.Secret = r.secret(key, f)
		if p.RemoteID.IsZero() && p.IDs.IsZero() && p.Remote.IsValid() {
			p.RemoteID = identity.AddrID(p.Remote)
		}
	}
}

// ownID is what we call ourselves when nothing is written: the subject of a certificate that we send, the address with a
// shared secret (zero while only the routes know it), else nothing (BTNS-CORE-42).
func ownID(p *Peer) identity.ID {
	switch {
	case p.own != nil:
		return p.own.ID()
	case p.Cert != nil:
		if id, err := identity.SubjectID(p.Cert); err == nil {
			return id
		}
	case p.Auth == PSK && p.Local.IsValid():
		return identity.AddrID(p.Local)
	case p.Auth == PSK:
		return identity.ID{}
	}
	return identity.Null()
}

// peerKeys reads one or several public keys.
func (r *reader) peerKeys(key string, v any, p *Peer) {
	const hint = `write a fingerprint ("SHA256:..."), a PEM file with a public key or certificate, or the base64 of a SubjectPublicKeyInfo`
	list, ok := v.([]any)
	if !ok && v != nil {
		list = []any{v}
	}
	for _, x := range list {
		text, ok := x.(string)
		switch {
		case !ok || text == "":
			r.fail(key, "%v is not a key; %s", x, hint)
		case strings.HasPrefix(text, "SHA256:"):
			print, err := identity.ParseFingerprint(text)
			if err != nil {
				r.fail(key, "%v; %s", err, hint)
			}
			p.Prints = append(p.Prints, print)
		default:
			if k, ok := r.publicKey(key, text, hint); ok {
				p.Keys = append(p.Keys, k)
			}
		}
	}
	if len(list) == 0 {
		r.fail(key, "it is missing: the peer's public key; %s", hint)
	}
}

func (r *reader) publicKey(key, text, hint string) (identity.PublicKey, bool) {
	if der, err := base64.StdEncoding.DecodeString(text); err == nil {
		if k, err := identity.ParsePublicKey(der); err == nil {
			return k, true
		}
	}
	pem, ok := r.open(key, text)
	if !ok {
		return identity.PublicKey{}, false
	}
	k, err := identity.ParsePublicPEM(pem)
	if err != nil {
		r.fail(key, "%s: %v; %s", text, err, hint)
	}
	return k, err == nil
}

// ownKey reads what we show to this peer, if it is not the host's own key.
func (r *reader) ownKey(key string, f *filePeer, p *Peer) {
	p.SendKey = p.Auth == RawKey
	if f.SendKey != nil {
		p.SendKey = *f.SendKey
	}
	if f.OwnKey != "" {
		p.Key, p.OwnKey = r.privateKey(key+".own_key", f.OwnKey)
	}
	if f.Certificate == "" {
		return
	}
	if p.Auth != SelfSigned {
		r.fail(key+".certificate", `it is sent with auth "selfsigned" only; remove it`)
		return
	}
	text, ok := r.open(key+".certificate", f.Certificate)
	if !ok {
		return
	}
	der, k, err := certificate(text)
	switch {
	case err != nil:
		r.fail(key+".certificate", "%s: %v; write a PEM file with a certificate", f.Certificate, err)
	case !p.OwnKey:
		r.fail(key+".certificate", "it needs own_key beside it: the private key of the certificate")
	case k != p.Key.Public:
		r.fail(key+".certificate", "%s is of the key %v, own_key is %v", f.Certificate, k, p.Key.Public)
	default:
		p.Cert = der
	}
}

func (r *reader) privateKey(key, name string) (identity.Signer, bool) {
	text, ok := r.open(key, name)
	if !ok {
		return identity.Signer{}, false
	}
	s, err := identity.ParsePrivateKey(text)
	if err != nil {
		r.fail(key, "%s: %v; write a PEM file with a private key", name, err)
	}
	return s, err == nil
}

// secret reads a shared secret. No message shows it.
func (r *reader) secret(key string, f *filePeer) Secret {
	switch {
	case f.PSK != "" && f.PSKFile != "":
		r.fail(key+".psk_file", "psk and psk_file are both given; remove one")
		return nil
	case f.PSKFile != "":
		text, ok := r.open(key+".psk_file", f.PSKFile)
		if !ok {
			return nil
		}
		return r.secretText(key+".psk_file", strings.TrimRight(string(text), "\r\n"))
	}
	return r.secretText(key+".psk", f.PSK)
}

func (r *reader) secretText(key, text string) Secret {
	digits, isHex := strings.CutPrefix(text, "0x")
	if !isHex {
		if text == "" {
			r.fail(key, `the shared secret is missing; write psk = "..." or psk_file = "..."`)
		}
		return Secret(text)
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) == 0 {
		r.fail(key, "after 0x there must be hexadecimal digits, two for each octet")
	}
	return b
}

// entries adds what PAD and SPD say about p.
func (r *reader) entries(key string, p *Peer, marks protect.Marks) {
	if !p.Remote.IsValid() {
		if !p.RemoteID.IsZero() || !p.IDs.IsZero() {
			r.pad = append(r.pad, policy.PADEntry{
				Name: p.Name, Kind: policy.ByID, ID: p.RemoteID, IDs: p.IDs, PSK: p.Secret, Anchors: p.Anchors, Here: true,
			})
		}
		return
	}
	pad := policy.PADEntry{Name: p.Name, Keys: p.Keys, Fingerprints: p.Prints, Constraint: selector.Set{selector.Host(p.Remote)}}
	spd := policy.Entry{
		Name: "peer " + p.Name, Source: r.source(key), Action: policy.Protect, Mode: p.Mode, Peer: p.Name,
		Local: selector.Any(), Remote: pad.Constraint, Fallback: policy.Require, Offer: p.ESP, KE: p.KE, Lifetime: p.Lifetime,
		Marks: marks,
	}
	if p.Mode == protect.Tunnel {
		spd.Local, spd.Remote = selectors(p.InsideL), selectors(p.InsideR)
		pad.Constraint = spd.Remote
	} else if p.Local.IsValid() {
		spd.Local = selector.Set{selector.Host(p.Local)}
	}
	switch {
	case p.Auth == Null:
		if r.nullPAD != "" {
			r.fail(key+".auth", "%q has no authentication already, and such peers cannot be told apart; one is allowed", r.nullPAD)
		}
		pad.Kind, r.nullPAD, spd.NullOK = policy.Null, p.Name, true
	case p.Auth == PSK:
		pad.Kind, pad.ID, pad.IDs, pad.PSK = policy.ByID, p.RemoteID, p.IDs, p.Secret
	case p.Auth == X509:
		pad.Kind, pad.ID, pad.IDs, pad.Anchors = policy.ByID, p.RemoteID, p.IDs, p.Anchors
	case p.RemoteID.IsZero():
		pad.Kind, pad.Addr = policy.ByKey, p.Remote
	default:
		pad.Kind, pad.ID = policy.ByID, p.RemoteID
	}
	r.pad, r.spd = append(r.pad, pad), append(r.spd, spd)
}

func selectors(prefixes []netip.Prefix) (out selector.Set) {
	for _, p := range prefixes {
		out = append(out, selector.Prefix(p))
	}
	return out
}
