package boltstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/trust"
)

// record is trust.Record as it is written. Version 2 added name, revoked, next, heir and retire; version 1 is version 2
// without them.
type record struct {
	Addr      string     `json:"addr,omitempty"`
	Network   string     `json:"network,omitempty"`
	Key       string     `json:"key"`
	SPKI      []byte     `json:"spki,omitempty"`
	Assurance uint8      `json:"assurance"`
	Evidence  []evidence `json:"evidence"`
	FirstSeen time.Time  `json:"first_seen"`
	LastSeen  time.Time  `json:"last_seen"`
	Sessions  uint32     `json:"sessions"`
	Inbound   bool       `json:"inbound,omitempty"`
	Sticky    bool       `json:"sticky,omitempty"`
	Suspended bool       `json:"suspended,omitempty"`

	Name    string      `json:"name,omitempty"`
	Revoked *time.Time  `json:"revoked,omitempty"`
	Next    []successor `json:"next,omitempty"`
	Heir    string      `json:"heir,omitempty"`
	Retire  *time.Time  `json:"retire,omitempty"`
}

type successor struct {
	SPKI []byte    `json:"spki"`
	From time.Time `json:"from"`
	Told time.Time `json:"told"`
}

type evidence struct {
	Kind string    `json:"kind"`
	At   time.Time `json:"at"`
}

func encode(r trust.Record) ([]byte, error) {
	w := record{
		Network: r.Network, Key: r.Key.String(), SPKI: r.Public.SPKI(), Assurance: uint8(r.Assurance),
		FirstSeen: r.FirstSeen.UTC(), LastSeen: r.LastSeen.UTC(), Sessions: r.Sessions,
		Inbound: r.Inbound, Sticky: r.Sticky, Suspended: r.Suspended,
	}
	if r.Addr.IsValid() {
		w.Addr = r.Addr.String()
	}
	for _, e := range r.Evidence {
		w.Evidence = append(w.Evidence, evidence{string(e.Kind), e.At.UTC()})
	}
	w.Name, w.Revoked, w.Retire = r.Name, timeOf(r.Revoked), timeOf(r.Retire)
	for _, n := range r.Next {
		w.Next = append(w.Next, successor{n.Key.SPKI(), n.From.UTC(), n.Told.UTC()})
	}
	if !r.Heir.IsZero() {
		w.Heir = r.Heir.String()
	}
	return json.Marshal(w)
}

func timeOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func decode(b []byte) (trust.Record, error) {
	var w record
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return trust.Record{}, err
	}
	if d.More() {
		return trust.Record{}, errors.New("something follows the record")
	}
	r := trust.Record{
		Network: w.Network, Assurance: identity.Assurance(w.Assurance), FirstSeen: w.FirstSeen, LastSeen: w.LastSeen,
		Sessions: w.Sessions, Inbound: w.Inbound, Sticky: w.Sticky, Suspended: w.Suspended,
	}
	var err error
	if r.Key, err = identity.ParseFingerprint(w.Key); err != nil {
		return trust.Record{}, err
	}
	if w.Addr != "" {
		if r.Addr, err = netip.ParseAddr(w.Addr); err != nil {
			return trust.Record{}, err
		}
	}
	if len(w.SPKI) > 0 {
		if r.Public, err = identity.ParsePublicKey(w.SPKI); err != nil {
			return trust.Record{}, err
		}
		if r.Public.Fingerprint() != r.Key {
			return trust.Record{}, errors.New("key and fingerprint differ")
		}
	}
	for _, e := range w.Evidence {
		r.Evidence = append(r.Evidence, trust.Evidence{Kind: trust.EvidenceKind(e.Kind), At: e.At})
	}
	return r, decodeKey(&w, &r)
}

// decodeKey reads what only the record of a key itself has, and the name of a place.
func decodeKey(w *record, r *trust.Record) (err error) {
	if w.Name != "" {
		if name, err := trust.ParseName(w.Name); err != nil || name != w.Name || w.Addr != "" || w.Network != "" {
			return errors.New("not a name, or one with an address")
		}
		r.Name = w.Name
	}
	if w.Revoked != nil {
		r.Revoked = *w.Revoked
	}
	if w.Retire != nil {
		r.Retire = *w.Retire
	}
	if w.Heir != "" {
		if r.Heir, err = identity.ParseFingerprint(w.Heir); err != nil {
			return err
		}
	}
	for _, n := range w.Next {
		k, err := identity.ParsePublicKey(n.SPKI)
		if err != nil {
			return err
		}
		r.Next = append(r.Next, trust.Successor{Key: k, From: n.From, Told: n.Told})
	}
	return nil
}
