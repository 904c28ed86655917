package ikev2

import (
	"crypto/ed25519"
	"crypto/sha1" //nolint:gosec // RFC 7296 §2.23 fixes it; nothing rests on its strength
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

const (
	portIKE = 500
	portNAT = 4500
)

// Private notifies between btns hosts. A peer that is not btns ignores them (RFC 7296 §3.10.1).
const (
	// notifyEncap says that the sender wants UDP encapsulation. Its data is the honest NAT_DETECTION_SOURCE_IP.
	notifyEncap wire.NotifyType = 40971
	// notifyLeaving says that the sender stops on purpose.
	notifyLeaving wire.NotifyType = 40972
)

// vendorID tells btns hosts: the first half of SHA-256("btns").
const vendorID = "\x02\x63\x32\xa2\xe3\x47\xd3\x41\xd3\x30\x0b\x25\xb2\x7d\x8f\xd6"

func notify(t wire.NotifyType, data ...byte) wire.Payload {
	return wire.Payload{Type: wire.PayloadNotify, Body: wire.Notify{Type: t, Data: data}}
}

// notifyChild is a notify that names a child by the SPI on which its sender receives, or received.
func notifyChild(t wire.NotifyType, spi uint32) wire.Payload {
	return wire.Payload{Type: wire.PayloadNotify, Body: wire.Notify{
		Type: t, Protocol: wire.ProtoESP, SPI: binary.BigEndian.AppendUint32(nil, spi),
	}}
}

func payload(t wire.PayloadType, b wire.Body) wire.Payload { return wire.Payload{Type: t, Body: b} }

func nonceOf(b []byte) wire.Payload { return payload(wire.PayloadNonce, wire.Nonce{Data: b}) }

func keOf(k suite.KE, public []byte) wire.Payload {
	return payload(wire.PayloadKE, wire.KE{Method: uint16(k), Data: public})
}

// errorOf returns the first error notify, or 0.
func errorOf(m *wire.Message) wire.NotifyType {
	for _, p := range m.Payloads {
		if n, ok := p.Body.(wire.Notify); ok && n.Type.IsError() {
			return n.Type
		}
	}
	return 0
}

func hasNotify(m *wire.Message, t wire.NotifyType) bool {
	_, ok := m.Notify(t)
	return ok
}

// natHash is the data of NAT_DETECTION_*_IP (RFC 7296 §2.23).
func natHash(spii, spir uint64, a netip.AddrPort) []byte {
	b := binary.BigEndian.AppendUint64(nil, spii)
	b = binary.BigEndian.AppendUint64(b, spir)
	b = append(b, a.Addr().Unmap().WithZone("").AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	sum := sha1.Sum(b) //nolint:gosec // see import
	return sum[:]
}

// natPayloads are our NAT detection notifies, after the nonce (RFC 7296 §2.23). With fake the source hash is random, so
// that a peer which is not btns encapsulates; the honest one then goes to peers that are.
func (e *Endpoint) natPayloads(spii, spir uint64, at path, encap, fake bool) []wire.Payload {
	honest := natHash(spii, spir, at.local)
	source := honest
	if fake {
		source = make([]byte, len(honest))
		e.fill(source)
	}
	ps := []wire.Payload{
		notify(wire.NATDetectionSourceIP, source...),
		notify(wire.NATDetectionDestinationIP, natHash(spii, spir, at.remote)...),
	}
	if encap {
		ps = append(ps, notify(notifyEncap, honest...))
	}
	return ps
}

// natSeen is what the peer's notifies say about the path that they came on. Without any the peer does no NAT traversal.
func natSeen(m *wire.Message, at path, btns bool) (n NAT, able bool) {
	source, destination := natHash(m.SPIi, m.SPIr, at.remote), natHash(m.SPIi, m.SPIr, at.local)
	sources, destinations, sourceFits, destinationFits := 0, 0, false, false
	honest, wish := wire.Notify{}, false
	for _, p := range m.Payloads {
		v, ok := p.Body.(wire.Notify)
		if !ok {
			continue
		}
		switch v.Type {
		case wire.NATDetectionSourceIP:
			sources++
			sourceFits = sourceFits || slices.Equal(v.Data, source)
		case wire.NATDetectionDestinationIP:
			destinations++
			destinationFits = destinationFits || slices.Equal(v.Data, destination)
		case notifyEncap:
			honest, wish = v, true
		}
	}
	if sources == 0 || destinations == 0 {
		return NAT{}, false
	}
	n.Us = !destinationFits
	n.Peer = !sourceFits
	if btns && wish {
		n.Encap = true
		n.Peer = !slices.Equal(honest.Data, source)
	}
	return n, true
}

func isBtns(m *wire.Message) bool {
	for _, p := range m.Payloads {
		if v, ok := p.Body.(wire.VendorID); ok && string(v.Data) == vendorID {
			return true
		}
	}
	return false
}

// hashesPayload announces what we verify with (RFC 7427 §4); SHA-1 is not in it (RFC 8247 §3.2).
func hashesPayload() wire.Payload {
	var b []byte
	for _, h := range suite.Hashes() {
		b = binary.BigEndian.AppendUint16(b, uint16(h))
	}
	return notify(wire.SignatureHashAlgorithms, b...)
}

// hashesOf returns what the peer announced, nil if nothing.
func hashesOf(m *wire.Message) (hs []suite.Hash) {
	n, ok := m.Notify(wire.SignatureHashAlgorithms)
	if !ok {
		return nil
	}
	for b := n.Data; len(b) >= 2; b = b[2:] {
		if h := suite.Hash(binary.BigEndian.Uint16(b)); h != suite.SHA1 && len(hs) < 16 {
			hs = append(hs, h)
		}
	}
	return hs
}

func idPayload(t wire.PayloadType, id identity.ID) wire.Payload {
	return payload(t, wire.ID{Type: wire.IDType(id.Type), Data: []byte(id.Data)})
}

func idOf(b wire.ID) identity.ID {
	return identity.ID{Type: identity.IDType(b.Type), Data: string(b.Data)}
}

func isAddress(id identity.ID) bool { return id.Type == identity.IDv4 || id.Type == identity.IDv6 }

// signerFor is the key that a peer with these hashes can verify: Ed25519 needs "Identity" (RFC 8420 §2).
func signerFor(l *Local, peerHashes []suite.Hash) identity.Signer {
	if _, ed := l.Key.Public.Crypto().(ed25519.PublicKey); ed && l.Fallback.Private != nil && !slices.Contains(peerHashes, suite.Identity) {
		return l.Fallback
	}
	return l.Key
}

// certPayloads shows our key (BTNS-CORE-30, -31). The bare key comes first: it is the one that counts.
func certPayloads(l Local, peerHashes []suite.Hash) (ps []wire.Payload) {
	if l.Method != Signature {
		return nil
	}
	key := signerFor(&l, peerHashes)
	if l.SendKey {
		ps = append(ps, payload(wire.PayloadCERT, wire.Cert{Encoding: wire.CertRawKey, Data: key.Public.SPKI()}))
	}
	if l.Certificate != nil && key.Public == l.Key.Public {
		for _, der := range append([][]byte{l.Certificate}, l.Above...) { // the own one first (RFC 7296 §3.6)
			ps = append(ps, payload(wire.PayloadCERT, wire.Cert{Encoding: wire.CertX509, Data: der}))
		}
	}
	return ps
}

// maxRequested is how many authorities a request names: it is a hint, and the first message has to stay small.
const maxRequested = 20

// certRequests asks peers that show a key only when asked. In one for raw keys the authority is empty (BTNS-CORE-35). Where
// it does not matter which authority issued a certificate, there has to be one all the same, because some versions of
// strongSwan take a request without any for malformed.
func certRequests(by *chain.Anchors) []wire.Payload {
	authorities := by.Hashes(maxRequested)
	if authorities == nil {
		whoever := sha1.Sum([]byte("btns")) //nolint:gosec // see import
		authorities = whoever[:]
	}
	return []wire.Payload{
		payload(wire.PayloadCERTREQ, wire.CertReq{Encoding: wire.CertX509, Authorities: authorities}),
		payload(wire.PayloadCERTREQ, wire.CertReq{Encoding: wire.CertRawKey}),
	}
}

var (
	errKeysDiffer = errors.New("ikev2: the peer's certificates hold different keys")
	errCertKey    = errors.New("ikev2: the peer's certificate holds no usable key")
)

// certificatesOf are the X.509 certificates of a message.
func certificatesOf(m *wire.Message) (ders [][]byte) {
	for _, p := range m.Payloads {
		if c, ok := p.Body.(wire.Cert); ok && c.Encoding == wire.CertX509 {
			ders = append(ders, c.Data)
		}
	}
	return ders
}

// keyOf takes the key out of CERT payloads: encoding 15, then 11, then the first certificate, which have to agree
// (BTNS-CORE-32, RFC 7296 §3.6).
func keyOf(m *wire.Message) (key identity.PublicKey, err error) {
	seenX509 := false
	for _, p := range m.Payloads {
		c, ok := p.Body.(wire.Cert)
		if !ok {
			continue
		}
		var k identity.PublicKey
		switch c.Encoding {
		case wire.CertRawKey:
			k, err = identity.ParsePublicKey(c.Data)
		case wire.CertRawRSA:
			k, err = identity.FromRSAPublicKey(c.Data)
		case wire.CertX509:
			if seenX509 { // the rest of a chain
				continue
			}
			seenX509 = true
			k, err = identity.FromCertificate(c.Data)
		default:
			continue
		}
		if err != nil {
			return identity.PublicKey{}, errCertKey
		}
		if !key.IsZero() && key != k {
			return identity.PublicKey{}, errKeysDiffer
		}
		key = k
	}
	return key, nil
}
