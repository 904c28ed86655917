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

// record is trust.Record as it is written, version 1.
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
	return json.Marshal(w)
}

func decode(b []byte) (trust.Record, error) {
	var w record
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&w); err != nil {
		return trust.Record{}, err
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
	return r, nil
}
