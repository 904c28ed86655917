package ikev2

import (
	"encoding/binary"
	"slices"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// initRequest takes the first message of an initiator: cheap checks, limits, cookie, and only then anything that costs
// (RFC 7296 §2.6, ikev2.md §12).
func (e *Endpoint) initRequest(d Datagram, h wire.Header) {
	if h.Flags&^wire.FlagVersion != wire.FlagInitiator || h.MessageID != 0 || h.SPIr != 0 || len(d.Data) > maxInitMessage {
		e.count(Malformed)
		return
	}
	e.front.forget(e.now)
	key := keyOfInit(d)
	if s, again := e.front.seen[key]; again {
		e.count(Replayed)
		if s.state.phase() == halfOpen && !s.gone && s.nextPeer == 1 { // after IKE_AUTH has come it is ignored
			for _, b := range s.answer.octets() {
				e.do(Send{Local: d.Local, Remote: d.Remote, Data: append([]byte(nil), b...)})
			}
		}
		return
	}
	if len(e.sessions) >= e.cfg.MaxSAs || e.dry {
		e.count(TooManySAs)
		return
	}
	m, err := wire.ParseMessage(d.Data)
	nonce, hasNonce := wire.Find[wire.Nonce](m, wire.PayloadNonce)
	ke, hasKE := wire.Find[wire.KE](m, wire.PayloadKE)
	sa, hasSA := wire.Find[wire.SA](m, wire.PayloadSA)
	if err != nil || !hasNonce || !hasKE || !hasSA {
		e.count(Malformed) // before keys there is no error message (RFC 7296 §2.21.1)
		return
	}
	for _, t := range once {
		if countOf(m.Payloads, t) > 1 {
			e.count(Malformed)
			return
		}
	}
	at := path{d.Local, d.Remote}
	if e.loaded() && !e.cookieShown(&m, nonce.Data, at) {
		return
	}
	if e.front.byPrefix[prefixOf(d.Remote.Addr())] >= e.cfg.MaxHalfOpenPerPrefix {
		e.count(TooManyHalfOpen)
		return
	}
	if !e.admit() {
		return
	}
	e.answerInit(d, &m, key, sa, ke, nonce.Data)
}

// cookieShown asks for a cookie unless the message has the right one.
func (e *Endpoint) cookieShown(m *wire.Message, ni []byte, at path) bool {
	if c, ok := m.Notify(wire.Cookie); ok {
		if e.cookieGood(c.Data, ni, at.remote, m.SPIi) {
			return true
		}
		e.count(BadCookie) // as if there were none
	}
	e.count(CookieSent)
	if c := e.newCookie(ni, at.remote, m.SPIi); c != nil {
		e.bare(m.Header, at, notify(wire.Cookie, c...))
	}
	return false
}

// refuseInit sends an unprotected error, at a limited rate.
func (e *Endpoint) refuseInit(r Reason, h wire.Header, at path, p wire.Payload) {
	e.count(r)
	if !e.front.errors.take(e.now, errorsRate) {
		e.count(Throttled)
		return
	}
	e.bare(h, at, p)
}

// answerInit chooses transforms and has the key exchange computed.
func (e *Endpoint) answerInit(d Datagram, m *wire.Message, key initKey, sa wire.SA, ke wire.KE, ni []byte) {
	at := path{d.Local, d.Remote}
	further := hasNotify(m, wire.IntermediateExchangeSupported)
	c, ok := chooseIKE(sa, e.cfg.IKE, suite.KE(ke.Method), further, 0)
	if !ok {
		e.refuseInit(NoProposal, m.Header, at, notify(wire.NoProposalChosen))
		return
	}
	if c.KE != suite.KE(ke.Method) {
		e.refuseInit(OtherKE, m.Header, at, notify(wire.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, uint16(c.KE))...))
		return
	}
	if len(ke.Data) != c.KE.InitiatorLen() || 2*len(ni) < c.PRF.KeyLen() {
		e.count(BadPublicValue)
		return
	}
	n := &session{handle: e.NewHandle(), heard: e.now, spoke: e.now, btns: isBtns(m) && !e.foreign}
	e.sessions[n.handle] = n
	s := e.newSA(n, false, e.spi(), at)
	n.current = s
	s.spii = m.SPIi
	s.suite = e.intern(c.IKE)
	s.nextPeer = 1
	s.until = e.now.add(e.cfg.HalfOpenTime)
	n.nat, _ = natSeen(m, at, n.btns)
	s.fragments = hasNotify(m, wire.IKEv2FragmentationSupported)
	st := &initGot{chosen: c, further: further, nat: hasNotify(m, wire.NATDetectionSourceIP)}
	st.hs.request, st.hs.ni, st.hs.hashes = slices.Clone(d.Data), slices.Clone(ni), hashesOf(m)
	st.job = &respond{jobOf: jobOf{s}, ke: c.KE, seed: e.seed(), peer: slices.Clone(ke.Data)}
	s.state = st
	e.halfOpenBegan(s)
	e.front.remember(key, s, s.until)
	e.compute(st.job)
}

// initGot waits for the responder's half of the key exchange.
type initGot struct {
	quiet
	hs      handshake
	chosen  chosenIKE
	further bool // the initiator supports IKE_INTERMEDIATE
	nat     bool // and NAT traversal
	job     *respond
}

func (*initGot) phase() phase { return initAnswering }

func (st *initGot) computed(e *Endpoint, s *sa, j work) {
	if j != work(st.job) {
		return
	}
	if st.job.err != nil { // a bad public value: as if the message had not come
		e.count(BadPublicValue)
		e.drop(s, nil)
		return
	}
	hs := &st.hs
	hs.nr = e.nonce()
	skeyseed := suite.SKEYSEED(s.suite.PRF, hs.ni, hs.nr, st.job.shared)
	suite.Wipe(st.job.shared)
	m := wire.Message{Header: s.header(wire.IKESAInit, 0, true)}
	m.Payloads = []wire.Payload{
		payload(wire.PayloadSA, st.chosen.answerSA(nil)), keOf(s.suite.KE, st.job.public), nonceOf(hs.nr),
	}
	n := s.session
	if st.nat {
		m.Payloads = append(m.Payloads, e.natPayloads(s.spii, s.spir, s.path, e.cfg.Encap && n.btns, e.cfg.Encap && !n.btns)...)
		n.nat.Encap = n.nat.Encap || e.cfg.Encap
	}
	m.Payloads = append(m.Payloads, certRequests(e.anchors)[:1]...)
	if s.fragments {
		m.Payloads = append(m.Payloads, notify(wire.IKEv2FragmentationSupported))
	}
	if hs.hashes != nil {
		m.Payloads = append(m.Payloads, hashesPayload())
	}
	if st.further {
		m.Payloads = append(m.Payloads, notify(wire.IntermediateExchangeSupported))
	}
	m.Payloads = append(m.Payloads,
		payload(wire.PayloadNotify, wire.Notify{Protocol: wire.ProtoIKE, Type: wire.ChildlessIKEv2Supported}))
	if !e.foreign {
		m.Payloads = append(m.Payloads, payload(wire.PayloadVendor, wire.VendorID{Data: []byte(vendorID)}))
	}
	hs.response = m.Append(nil)
	s.answer = &answer{data: [][]byte{hs.response}}
	if err := e.derive(s, hs, skeyseed); err != nil {
		e.notice(s, Internal, err.Error())
		e.drop(s, err)
		return
	}
	s.state = &halfOpenSA{hs: hs}
	e.do(Send{Local: s.local, Remote: s.remote, Data: slices.Clone(hs.response)})
}

// halfOpenSA waits for IKE_INTERMEDIATE and IKE_AUTH. What is not authentic never harms it (ikev2.md §12).
type halfOpenSA struct {
	quiet
	hs  *handshake
	m   *message // IKE_INTERMEDIATE being answered
	job *respond
}

func (*halfOpenSA) phase() phase { return halfOpen }

func (st *halfOpenSA) request(e *Endpoint, s *sa, m *message) {
	due := st.hs.step < len(s.suite.AddKE)
	switch {
	case m.Exchange == wire.IKEIntermediate && due:
		st.intermediate(e, s, m)
	case m.Exchange == wire.IKEAuth && !due:
		e.do(Heard{Remote: m.remote})
		c := &checking{hs: st.hs, m: m, authID: m.MessageID}
		c.begin(e, s)
	default: // IKE_AUTH too early, or one exchange too many (RFC 9370 §2.2.2)
		e.notice(s, Unexpected, "the initiator skips a key exchange, or adds one")
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "wrong number of key exchanges"})
	}
}

func (st *halfOpenSA) intermediate(e *Endpoint, s *sa, m *message) {
	ke, _ := wire.Find[wire.KE](m.Message, wire.PayloadKE)
	k := s.suite.AddKE[st.hs.step]
	if suite.KE(ke.Method) != k || len(ke.Data) != k.InitiatorLen() {
		e.notice(s, BadSyntax, "IKE_INTERMEDIATE with another key exchange")
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "wrong key exchange"})
		return
	}
	st.hs.intI = m.intAuth(s.suite.PRF, st.hs.keys.Pi, st.hs.intI)
	st.m = m
	st.job = &respond{jobOf: jobOf{s}, ke: k, seed: e.seed(), peer: ke.Data}
	e.compute(st.job)
}

func (st *halfOpenSA) computed(e *Endpoint, s *sa, j work) {
	if st.job == nil || j != work(st.job) {
		return
	}
	job := st.job
	st.job = nil
	if job.err != nil {
		e.count(BadPublicValue)
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "bad public value"})
		return
	}
	ps := []wire.Payload{keOf(job.ke, job.public)}
	plain := wire.AppendPayloads(nil, ps)
	h := s.header(wire.IKEIntermediate, st.m.MessageID, true)
	st.hs.intR = suite.IntAuth(s.suite.PRF, st.hs.keys.Pr, st.hs.intR, intAuthHead(h, wire.PayloadKE, 0, len(plain)), plain)
	e.reply(s, ps...) // under the keys from before the exchange (RFC 9370 §2.2.2)
	if err := e.mix(s, st.hs, job.shared); err != nil {
		e.reject(s, notify(wire.InvalidSyntax), err)
	}
}

// granting is the last part of a responder's handshake: the child, and our own proof.
type granting struct {
	c     *checking
	child *answerChild // nil: none was asked for
	job   *sign
}

func (g *granting) begin(e *Endpoint, s *sa) {
	m := &g.c.m.Message
	wants := 0
	for _, t := range []wire.PayloadType{wire.PayloadSA, wire.PayloadTSi, wire.PayloadTSr} {
		wants += countOf(m.Payloads, t)
	}
	switch wants {
	case 0: // RFC 6023
		g.prove(e, s)
	case 3:
		g.child = &answerChild{ni: g.c.hs.ni, nr: g.c.hs.nr, auth: true}
		if g.child.ask(e, s, m) {
			return
		}
		g.prove(e, s)
	default:
		e.notice(s, BadSyntax, "half a child in IKE_AUTH")
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "half a child in IKE_AUTH"})
	}
}

func (g *granting) childJudged(e *Endpoint, s *sa, v ChildJudged) {
	if g.child != nil && g.child.judged(e, s, v) {
		g.prove(e, s)
	}
}

// prove makes our AUTH.
func (g *granting) prove(e *Endpoint, s *sa) {
	l := &g.c.local
	id := wire.ID{Type: wire.IDType(localID(l).Type), Data: []byte(localID(l).Data)}
	octets := g.c.hs.octetsOf(s, false, id.AppendBody(nil), g.c.authID)
	p, job := e.authPayload(s, g.c.hs, l, octets)
	if job != nil {
		g.job = job
		e.compute(job)
		return
	}
	g.finish(e, s, p)
}

func (g *granting) computed(e *Endpoint, s *sa, j work) {
	if g.job == nil || j != work(g.job) {
		return
	}
	job := g.job
	g.job = nil
	if job.err != nil { // no way to sign that the peer understands
		g.c.refuse(e, s, BadAuth, job.err)
		return
	}
	g.finish(e, s, payload(wire.PayloadAUTH, wire.Auth{Method: wire.AuthMethod(job.method), Data: job.data}))
}

// finish installs and answers, in this order: packets may come as soon as the peer has the answer (RFC 7296 §2.8).
func (g *granting) finish(e *Endpoint, s *sa, auth wire.Payload) {
	ps := []wire.Payload{idPayload(wire.PayloadIDr, localID(&g.c.local))}
	ps = append(ps, certPayloads(g.c.local, g.c.hs.hashes)...)
	ps = append(ps, auth)
	ps = append(ps, e.instancePayload(s.session, g.c.local.Method)...)
	if a, ok := auth.Body.(wire.Auth); ok {
		g.c.hs.mine.by(a)
	}
	e.up(s, g.c.hs, g.c.m)
	if g.child != nil {
		ps = append(ps, g.child.install(e, s)...)
	}
	e.reply(s, ps...)
	e.pump(s)
}
