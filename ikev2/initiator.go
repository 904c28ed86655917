package ikev2

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// handshake is what the initial exchanges collect, and nothing that outlives them.
type handshake struct {
	ni, nr     []byte
	request    []byte // IKE_SA_INIT messages, as AUTH covers them
	response   []byte
	hashes     []suite.Hash // of the peer; nil unless both announced some
	childless  bool         // the responder supports RFC 6023
	step       int          // additional key exchanges done
	intI, intR []byte       // IntAuth so far
	keys       suite.Keys

	mine, theirs shown
	own          identity.PublicKey // that we sign with
}

// wipe forgets the keys that AUTH needed.
func (h *handshake) wipe() { suite.Wipe(h.keys.Pi, h.keys.Pr) }

// derive takes the keys of the next step and puts them in force.
func (e *Endpoint) derive(s *sa, h *handshake, skeyseed []byte) error {
	keys, err := suite.DeriveKeys(*s.suite, skeyseed, h.ni, h.nr, s.spii, s.spir)
	if err != nil {
		return err
	}
	h.keys = keys
	return e.protectWith(s, keys)
}

func (e *Endpoint) protectWith(s *sa, keys suite.Keys) error {
	d, err := s.sk.Set(s.suite.Cipher, keys)
	if err != nil {
		return err
	}
	s.in, s.out, s.skd = &s.sk.Initiator, &s.sk.Responder, d
	if s.initiator {
		s.in, s.out = s.out, s.in
	}
	suite.Wipe(keys.D, keys.Ei, keys.Er, keys.Ai, keys.Ar)
	return nil
}

// initSent waits for the answer to IKE_SA_INIT. An unprotected error may be forged: only COOKIE and INVALID_KE_PAYLOAD are
// acted on at once, and only so often (RFC 7296 §2.4, §2.6.1).
type initSent struct {
	quiet
	wish     Initiate
	offer    []Proposal
	hs       handshake
	ke       suite.KE
	private  *suite.Private
	making   *generate
	agreeing *agree
	answer   *wire.Message // being worked on
	cookie   []byte
	cookies  int
	kes      int // INVALID_KE_PAYLOAD followed
	sent     int
	refused  wire.NotifyType
}

func (*initSent) phase() phase { return initSending }

const (
	maxCookies  = 3
	maxOtherKEs = 2
	refusedTime = 6 * time.Second // how long to wait on after an unprotected error
)

// initiate begins an IKE SA.
func (e *Endpoint) initiate(ev Initiate) {
	if _, taken := e.sessions[ev.SA]; taken || ev.SA == 0 {
		return
	}
	n := &session{handle: ev.SA, shown: true, override: ev.Override, heard: e.now, spoke: e.now}
	st := &initSent{wish: ev, offer: e.cfg.IKE}
	switch {
	case ev.Override != nil && len(ev.Override.IKE) > 0:
		st.offer = ev.Override.IKE
	case ev.Quick > 0:
		st.offer = small(st.offer)
	}
	at := path{ev.Local, ev.Remote}
	s := e.newSA(n, true, e.spi(), at)
	n.current, s.state = s, st
	e.sessions[ev.SA] = n
	st.hs.ni = e.nonce()
	if len(st.offer[0].KE) == 0 || len(e.sessions) > e.cfg.MaxSAs || e.dry {
		e.count(TooManySAs)
		e.drop(s, &ProtocolError{What: "too many IKE SAs, nothing to offer, or no entropy"})
		return
	}
	s.hard = e.now.add(5 * time.Minute) // whatever happens, an attempt ends
	st.generate(e, s, st.offer[0].KE[0])
}

// smallValue is the longest key exchange value that is sent to an address that may not want any, in octets.
const smallValue = 100

// small is offer without the methods whose values are long: the first message and its list of methods stay short, and
// nobody can ask for a longer one. An offer that has no others stays as it is.
func small(offer []Proposal) []Proposal {
	var out []Proposal
	for _, p := range offer {
		p.KE = slices.DeleteFunc(slices.Clone(p.KE), func(k suite.KE) bool { return k.InitiatorLen() > smallValue })
		if len(p.KE) > 0 {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return offer
	}
	return out
}

func (st *initSent) generate(e *Endpoint, s *sa, k suite.KE) {
	st.ke = k
	st.making = &generate{jobOf: jobOf{s}, ke: k, seed: e.seed()}
	e.compute(st.making)
}

func (st *initSent) computed(e *Endpoint, s *sa, j work) {
	switch {
	case j == work(st.making):
		private, err := st.making.private, st.making.err
		st.making = nil
		if err != nil {
			e.drop(s, err)
			return
		}
		st.private = private
		st.transmit(e, s)
	case j == work(st.agreeing):
		a := st.agreeing
		st.agreeing = nil
		if a.err != nil { // a bad public value in IKE_SA_INIT: as if it had not come (RFC 6989)
			e.count(BadPublicValue)
			s.own.at = e.now.add(time.Duration(s.own.wait))
			return
		}
		st.finish(e, s, a.shared)
	}
}

// transmit sends the first message, or sends it anew with a cookie or another key exchange: SPIi, Ni and the offer stay
// (RFC 7296 §2.6, §2.7).
func (st *initSent) transmit(e *Endpoint, s *sa) {
	m := wire.Message{Header: s.header(wire.IKESAInit, 0, false)}
	m.SPIr = 0
	if st.cookie != nil {
		m.Payloads = append(m.Payloads, notify(wire.Cookie, st.cookie...))
	}
	m.Payloads = append(m.Payloads,
		payload(wire.PayloadSA, ikeSA(st.offer, nil)),
		keOf(st.ke, st.private.Public()),
		nonceOf(st.hs.ni),
	)
	encap := st.wish.Encap
	m.Payloads = append(m.Payloads, e.natPayloads(s.spii, 0, s.path, encap, encap)...)
	m.Payloads = append(m.Payloads, notify(wire.IKEv2FragmentationSupported), hashesPayload())
	if offersAddKE(st.offer) {
		m.Payloads = append(m.Payloads, notify(wire.IntermediateExchangeSupported))
	}
	if !e.foreign {
		m.Payloads = append(m.Payloads, payload(wire.PayloadVendor, wire.VendorID{Data: []byte(vendorID)}))
	}
	st.hs.request = m.Append(nil)
	plan := e.cfg.Init
	if s.own != nil {
		st.sent += s.own.sends
	}
	if q := st.wish.Quick; q > 0 {
		plan.Sends = max(q-st.sent, 1)
	}
	e.transmit(s, &request{exchange: wire.IKESAInit, data: [][]byte{st.hs.request}, plan: plan})
}

// initResponse takes an unprotected answer.
func (e *Endpoint) initResponse(s *sa, d Datagram) {
	st, ok := s.state.(*initSent)
	if !ok || !s.own.sent() || st.agreeing != nil || st.making != nil {
		e.count(StaleID)
		return
	}
	m, err := wire.ParseMessage(append([]byte(nil), d.Data...))
	if err != nil || m.MessageID != 0 {
		e.count(Malformed)
		return
	}
	e.touch(s)
	e.do(Heard{Remote: d.Remote})
	if cookie, ok := m.Notify(wire.Cookie); ok {
		st.retryWithCookie(e, s, cookie.Data)
		return
	}
	switch t := errorOf(&m); {
	case t == wire.InvalidKEPayload:
		st.retryWithKE(e, s, &m)
	case t != 0:
		st.disappointed(e, s, t)
	case check(initSending, &m) != fits:
		e.count(Malformed)
	default:
		st.accept(e, s, &m, path{d.Local, d.Remote}, d.Data)
	}
}

func (st *initSent) retryWithCookie(e *Endpoint, s *sa, cookie []byte) {
	if len(cookie) == 0 || len(cookie) > 64 || st.cookies >= maxCookies {
		e.count(Hint)
		return
	}
	st.cookies++
	st.cookie = slices.Clone(cookie)
	st.transmit(e, s)
}

func (st *initSent) retryWithKE(e *Endpoint, s *sa, m *wire.Message) {
	n, _ := m.Notify(wire.InvalidKEPayload)
	if len(n.Data) != 2 || st.kes >= maxOtherKEs {
		e.count(Hint)
		return
	}
	k := suite.KE(binary.BigEndian.Uint16(n.Data))
	if k == st.ke || !offersKE(st.offer, k) || !k.Supported() {
		st.disappointed(e, s, wire.InvalidKEPayload)
		return
	}
	st.kes++
	st.private.Wipe()
	s.own.at = never // nothing is sent again before the new secret is there
	st.generate(e, s, k)
}

// disappointed notes an error that may be forged, and waits on for a while.
func (st *initSent) disappointed(e *Endpoint, s *sa, t wire.NotifyType) {
	if st.refused == 0 {
		s.until = e.now.add(refusedTime)
		e.notice(s, Hint, fmt.Sprintf("unprotected answer: %v", t))
	}
	st.refused = t
}

// accept takes an answer that looks right and goes on to the shared secret.
func (st *initSent) accept(e *Endpoint, s *sa, m *wire.Message, at path, raw []byte) {
	sa, _ := wire.Find[wire.SA](*m, wire.PayloadSA)
	ke, _ := wire.Find[wire.KE](*m, wire.PayloadKE)
	nonce, _ := wire.Find[wire.Nonce](*m, wire.PayloadNonce)
	chosen, _, ok := acceptIKE(sa, st.offer, 0)
	if !ok {
		e.notice(s, NoProposal, "the answer is not a choice from our offer")
		return
	}
	if m.SPIr == 0 || suite.KE(ke.Method) != st.ke || chosen.KE != st.ke || len(ke.Data) != st.ke.ResponderLen() ||
		len(nonce.Data)*2 < chosen.PRF.KeyLen() {
		e.notice(s, Malformed, "the answer contradicts itself")
		return
	}
	if len(chosen.AddKE) > 0 && !hasNotify(m, wire.IntermediateExchangeSupported) {
		e.notice(s, NoProposal, "additional key exchange without IKE_INTERMEDIATE")
		return
	}
	st.answer = m
	st.hs.response = slices.Clone(raw)
	st.hs.nr = nonce.Data
	st.hs.hashes = hashesOf(m)
	st.hs.childless = hasNotify(m, wire.ChildlessIKEv2Supported)
	s.suite = e.intern(chosen)
	s.local = at.local
	s.own.at = never
	s.until = never
	st.agreeing = &agree{jobOf: jobOf{s}, private: st.private, peer: ke.Data}
	e.compute(st.agreeing)
}

// finish derives the first keys and moves to port 4500 if there is a reason (RFC 7296 §2.23).
func (st *initSent) finish(e *Endpoint, s *sa, shared []byte) {
	m, n := st.answer, s.session
	s.spir = m.SPIr
	s.own, s.nextOwn = nil, 1
	n.btns = isBtns(m) && !e.foreign
	nat, able := natSeen(m, s.path, n.btns)
	n.nat = nat
	if able {
		n.nat.Encap = nat.Encap || st.wish.Encap
	}
	s.fragments = hasNotify(m, wire.IKEv2FragmentationSupported)
	skeyseed := suite.SKEYSEED(s.suite.PRF, st.hs.ni, st.hs.nr, shared)
	suite.Wipe(shared)
	if err := e.derive(s, &st.hs, skeyseed); err != nil {
		e.drop(s, err)
		return
	}
	if n.nat.Us || n.nat.Peer || n.nat.Encap {
		s.path = floated(s.path)
	}
	hs := st.hs
	e.nextStep(s, &hs, &st.wish)
}

// floated is the path on port 4500 (RFC 7296 §2.23). Other ports were chosen for a reason and stay.
func floated(p path) path {
	if p.local.Port() == portIKE {
		p.local = netip.AddrPortFrom(p.local.Addr(), portNAT)
	}
	if p.remote.Port() == portIKE {
		p.remote = netip.AddrPortFrom(p.remote.Addr(), portNAT)
	}
	return p
}

// nextStep goes on with the next additional key exchange, or with IKE_AUTH.
func (e *Endpoint) nextStep(s *sa, hs *handshake, wish *Initiate) {
	if hs.step < len(s.suite.AddKE) {
		st := &midSent{hs: hs, wish: wish}
		s.state = st
		st.making = &generate{jobOf: jobOf{s}, ke: s.suite.AddKE[hs.step], seed: e.seed()}
		e.compute(st.making)
		return
	}
	e.beginAuth(s, hs, wish)
}

// midSent is an IKE_INTERMEDIATE exchange of the initiator (RFC 9242, RFC 9370).
type midSent struct {
	quiet
	hs       *handshake
	wish     *Initiate
	making   *generate
	agreeing *agree
}

func (*midSent) phase() phase { return midSending }

func (st *midSent) computed(e *Endpoint, s *sa, j work) {
	switch {
	case j == work(st.making):
		if st.making.err != nil {
			e.drop(s, st.making.err)
			return
		}
		ps := []wire.Payload{keOf(st.making.ke, st.making.private.Public())}
		plain := wire.AppendPayloads(nil, ps)
		h := s.header(wire.IKEIntermediate, s.nextOwn, false)
		st.hs.intI = suite.IntAuth(s.suite.PRF, st.hs.keys.Pi, st.hs.intI, intAuthHead(h, wire.PayloadKE, 0, len(plain)), plain)
		e.send(s, nil, wire.IKEIntermediate, e.usual(s), ps...)
	case j == work(st.agreeing):
		if st.agreeing.err != nil { // a bad value in a protected response ends the IKE SA
			e.count(BadPublicValue)
			e.drop(s, &ProtocolError{What: "bad public value in IKE_INTERMEDIATE"})
			return
		}
		if err := e.mix(s, st.hs, st.agreeing.shared); err != nil {
			e.drop(s, err)
			return
		}
		e.nextStep(s, st.hs, st.wish)
	}
}

// mix derives all keys afresh with one more shared secret (RFC 9370 §2.2.2).
func (e *Endpoint) mix(s *sa, hs *handshake, shared []byte) error {
	seed := suite.IntermediateSKEYSEED(s.suite.PRF, s.skd, shared, hs.ni, hs.nr)
	suite.Wipe(shared)
	old := hs.keys
	hs.step++
	err := e.derive(s, hs, seed)
	old.Wipe()
	return err
}

func (st *midSent) response(e *Endpoint, s *sa, m *message) {
	if t := errorOf(&m.Message); t != 0 {
		e.drop(s, &RefusedError{Notify: uint16(t)})
		return
	}
	ke, _ := wire.Find[wire.KE](m.Message, wire.PayloadKE)
	k := s.suite.AddKE[st.hs.step]
	if suite.KE(ke.Method) != k || len(ke.Data) != k.ResponderLen() {
		e.drop(s, &ProtocolError{What: "IKE_INTERMEDIATE answers with another key exchange"})
		return
	}
	st.hs.intR = m.intAuth(s.suite.PRF, st.hs.keys.Pr, st.hs.intR)
	st.agreeing = &agree{jobOf: jobOf{s}, private: st.making.private, peer: ke.Data}
	e.compute(st.agreeing)
}

// intern shares equal suites among IKE SAs.
func (e *Endpoint) intern(s suite.IKE) *suite.IKE {
	key := s.String()
	if have := e.suites[key]; have != nil {
		return have
	}
	e.suites[key], e.names[&s] = &s, key
	return &s
}
