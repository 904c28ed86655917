package ikev2

import (
	"errors"
	"fmt"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// octetsOf is what the AUTH of the original initiator, or of the responder, covers (RFC 7296 §2.15).
func (h *handshake) octetsOf(s *sa, initiator bool, idBody []byte, authID uint32) []byte {
	var intAuth []byte
	if h.step > 0 {
		intAuth = suite.IntAuthOctets(h.intI, h.intR, authID)
	}
	if initiator {
		return suite.SignedOctets(s.suite.PRF, h.keys.Pi, h.request, h.nr, idBody, intAuth)
	}
	return suite.SignedOctets(s.suite.PRF, h.keys.Pr, h.response, h.ni, idBody, intAuth)
}

// skp is the SK_p of one side.
func (h *handshake) skp(initiator bool) []byte {
	if initiator {
		return h.keys.Pi
	}
	return h.keys.Pr
}

// authPayload proves l. A signature needs the job, which is nil otherwise.
func (e *Endpoint) authPayload(s *sa, h *handshake, l *Local, octets []byte) (p wire.Payload, job *sign) {
	h.mine.octets = octets
	auth := wire.Auth{Method: wire.AuthSharedKey}
	switch l.Method {
	case Signature:
		signer := signerFor(l, h.hashes)
		h.own = signer.Public
		return p, &sign{jobOf: jobOf{s}, seed: e.seed(), signer: signer, hashes: h.hashes, octets: octets}
	case Null:
		auth.Method = wire.AuthNull
		auth.Data = suite.SharedKeyMAC(s.suite.PRF, h.skp(s.initiator), octets)
	default:
		auth.Data = suite.SharedKeyMAC(s.suite.PRF, l.PSK, octets)
	}
	return payload(wire.PayloadAUTH, auth), nil
}

// localID is what we assert: nothing but our key by default (BTNS-CORE-42).
func localID(l *Local) identity.ID {
	if l.ID.IsZero() {
		return identity.Null()
	}
	return l.ID
}

// authSent is IKE_AUTH of the initiator, from the making of the signature to the answer.
type authSent struct {
	quiet
	hs      *handshake
	wish    *Initiate
	signing *sign
}

func (*authSent) phase() phase { return authSending }

func (e *Endpoint) beginAuth(s *sa, hs *handshake, wish *Initiate) {
	st := &authSent{hs: hs, wish: wish}
	s.state = st
	id := wire.ID{Type: wire.IDType(localID(&wish.Credential).Type), Data: []byte(localID(&wish.Credential).Data)}
	octets := hs.octetsOf(s, true, id.AppendBody(nil), s.nextOwn)
	p, job := e.authPayload(s, hs, &wish.Credential, octets)
	if job != nil {
		st.signing = job
		e.compute(job)
		return
	}
	st.transmit(e, s, p)
}

func (st *authSent) computed(e *Endpoint, s *sa, j work) {
	if j != work(st.signing) {
		return
	}
	st.signing = nil
	job := j.(*sign)
	if job.err != nil {
		e.drop(s, job.err)
		return
	}
	st.transmit(e, s, payload(wire.PayloadAUTH, wire.Auth{Method: wire.AuthMethod(job.method), Data: job.data}))
}

// transmit sends the request in the order of RFC 7296 §1.2.
func (st *authSent) transmit(e *Endpoint, s *sa, auth wire.Payload) {
	w := st.wish
	if a, ok := auth.Body.(wire.Auth); ok {
		st.hs.mine.by(a)
	}
	ps := []wire.Payload{idPayload(wire.PayloadIDi, localID(&w.Credential))}
	ps = append(ps, certPayloads(w.Credential, st.hs.hashes)...)
	if w.InitialContact {
		ps = append(ps, notify(wire.InitialContact))
	}
	ps = append(ps, certRequests(w.Anchors)...)
	if id := w.Expect.ID; !id.IsZero() && id.Type != identity.IDNull { // BTNS-CORE-44: never to a stranger
		ps = append(ps, idPayload(wire.PayloadIDr, id))
	}
	ps = append(ps, auth)
	ps = append(ps, e.instancePayload(s.session, w.Credential.Method)...)
	if w.Child != nil {
		child, ok := childPayloads(w.Child, nil, nil, nil)
		if !ok {
			e.drop(s, &ProtocolError{What: "the child that was asked for cannot be put in a message"})
			return
		}
		ps = append(ps, child...)
	} else if !st.hs.childless { // RFC 6023 §3
		e.drop(s, &ProtocolError{What: "the peer makes no IKE SA without a child"})
		return
	}
	e.send(s, nil, wire.IKEAuth, e.usual(s), ps...)
}

func (st *authSent) response(e *Endpoint, s *sa, m *message) {
	_, hasAuth := m.First(wire.PayloadAUTH)
	if t := errorOf(&m.Message); t != 0 && !hasAuth {
		e.count(PeerError)
		e.drop(s, &RefusedError{Notify: uint16(t), Authenticated: true})
		return
	}
	if _, ok := m.First(wire.PayloadIDr); !ok {
		e.fail(s, 0, "IKE_AUTH is answered without IDr")
		return
	}
	c := &checking{hs: st.hs, wish: st.wish, m: m, authID: m.MessageID}
	c.begin(e, s)
}

// checking is the verdict on a peer, in either role: credential, proof, judge.
type checking struct {
	quiet
	hs     *handshake
	m      *message
	authID uint32
	wish   *Initiate // as initiator
	local  Local     // as responder
	id     wire.ID
	auth   wire.Auth
	sent   identity.PublicKey
	peer   Peer
	expect Remote
	asked  bool // FindCredential is out
	judged bool // JudgePeer is out
	job    *verify
	next   *granting // as responder, when the peer is in
}

func (c *checking) phase() phase {
	if c.wish != nil {
		return peerChecking
	}
	return authAnswering
}

func methodOf(m wire.AuthMethod) Method {
	switch m {
	case wire.AuthSharedKey:
		return SharedKey
	case wire.AuthNull:
		return Null
	}
	return Signature
}

// begin reads what the peer asserts and finds out what it must show.
func (c *checking) begin(e *Endpoint, s *sa) {
	s.state = c
	n := s.session
	of := wire.PayloadIDi
	if s.initiator {
		of = wire.PayloadIDr
	}
	var ok bool
	c.id, _ = wire.Find[wire.ID](c.m.Message, of)
	if c.auth, ok = wire.Find[wire.Auth](c.m.Message, wire.PayloadAUTH); !ok {
		c.refuse(e, s, BadAuth, errors.New("ikev2: the peer wants EAP"))
		return
	}
	var err error
	if c.sent, err = keyOf(&c.m.Message); err != nil {
		c.refuse(e, s, BadAuth, err)
		return
	}
	c.peer = Peer{ID: idOf(c.id), Method: methodOf(c.auth.Method)}
	if c.peer.Method != Signature {
		c.sent = identity.PublicKey{}
	}
	if c.wish != nil && !c.wish.Expect.IsZero() {
		c.prove(e, s, c.wish.Expect)
		return
	}
	find := FindCredential{
		SA: n.handle, Initiator: c.wish != nil, Local: s.local, Remote: s.remote,
		ID: c.peer.ID, Method: c.peer.Method, Key: c.sent,
	}
	if c.peer.Method == Signature {
		find.Certificates = certificatesOf(&c.m.Message)
	}
	if idr, ok := wire.Find[wire.ID](c.m.Message, wire.PayloadIDr); ok && c.wish == nil {
		find.Wanted = idOf(idr)
	}
	c.asked, n.shown = true, true
	e.do(find)
}

func (c *checking) credential(e *Endpoint, s *sa, v Credential) {
	if !c.asked {
		return
	}
	c.asked = false
	if v.Refuse != nil {
		c.refuse(e, s, BadAuth, v.Refuse)
		return
	}
	c.local = v.Local
	if v.Override != nil {
		s.session.override = v.Override
	}
	c.prove(e, s, v.Remote)
}

var (
	errWrongID     = errors.New("ikev2: the peer asserts another identity")
	errWrongMethod = errors.New("ikev2: the peer authenticates in a way that is not accepted")
	errWrongKey    = errors.New("ikev2: the peer shows another key than the one configured, or none")
	errBadProof    = errors.New("ikev2: the peer's AUTH does not verify")
)

// prove checks AUTH against what the peer must show.
func (c *checking) prove(e *Endpoint, s *sa, r Remote) {
	c.expect = r
	if !r.ID.IsZero() && !r.ID.Matches(c.peer.ID) {
		c.refuse(e, s, BadAuth, errWrongID)
		return
	}
	octets := c.hs.octetsOf(s, !s.initiator, c.id.AppendBody(nil), c.authID)
	c.hs.theirs.octets = octets
	c.hs.theirs.by(c.auth)
	var secret []byte
	switch {
	case c.peer.Method == SharedKey && len(r.PSK) > 0:
		secret = r.PSK
	case c.peer.Method == Null && r.AnyNull:
		secret = c.hs.skp(!s.initiator)
	case c.peer.Method == Signature && (r.AnyKey || r.Anchors != nil || len(r.Keys) > 0):
		c.proveKey(e, s, r, octets)
		return
	default:
		c.refuse(e, s, BadAuth, errWrongMethod)
		return
	}
	if suite.VerifySharedKeyMAC(s.suite.PRF, secret, octets, c.auth.Data) != nil {
		c.refuse(e, s, BadAuth, errBadProof)
		return
	}
	c.judge(e, s)
}

// proveKey has a signature checked, and with it the certificates that say whose key it is, where they have to.
func (c *checking) proveKey(e *Endpoint, s *sa, r Remote, octets []byte) {
	keys := keysOf(r, c.sent)
	certified := len(keys) == 0 && r.Anchors != nil && !c.sent.IsZero()
	switch {
	case certified && isAddress(c.peer.ID) && c.peer.ID != identity.AddrID(s.remote.Addr()): // RFC 4945 §3.1.1
		c.refuse(e, s, BadAuth, &chain.Error{
			Fault: chain.OtherID, Text: fmt.Sprintf("the peer asserts %v, and speaks from %v", c.peer.ID, s.remote.Addr()),
		})
		return
	case certified:
		keys = []identity.PublicKey{c.sent}
	case len(keys) == 0:
		c.refuse(e, s, BadAuth, errWrongKey)
		return
	}
	c.job = &verify{
		jobOf: jobOf{s}, keys: keys, method: uint8(c.auth.Method),
		data: c.auth.Data, octets: octets,
	}
	if certified {
		c.job.claim = &claim{certificatesOf(&c.m.Message), r.Anchors, c.peer.ID, e.clock}
	}
	if c.hs.hashes != nil {
		c.job.hashes = suite.Hashes()
	}
	e.compute(c.job)
}

func (c *checking) computed(e *Endpoint, s *sa, j work) {
	if c.next != nil {
		c.next.computed(e, s, j)
		return
	}
	if c.job == nil || j != work(c.job) {
		return
	}
	job := c.job
	c.job = nil
	if job.err != nil {
		c.refuse(e, s, BadAuth, job.err)
		return
	}
	c.peer.Key, c.peer.Proven = job.key, job.proven
	c.judge(e, s)
}

// judge asks whether the verified peer may be here.
func (c *checking) judge(e *Endpoint, s *sa) {
	n := s.session
	n.peer = c.peer
	n.shown, c.judged = true, true
	e.do(JudgePeer{
		SA: n.handle, Initiator: c.wish != nil, Local: s.local, Remote: s.remote, Peer: c.peer, NAT: n.nat,
		InitialContact: hasNotify(&c.m.Message, wire.InitialContact),
	})
}

func (c *checking) peerJudged(e *Endpoint, s *sa, v PeerJudged) {
	if !c.judged {
		return
	}
	c.judged = false
	s.session.known = v.Known
	switch {
	case v.Refuse != nil:
		c.refuse(e, s, RefusedPeer, v.Refuse)
	case c.wish != nil:
		c.join(e, s)
	default:
		c.next = &granting{c: c}
		c.next.begin(e, s)
	}
}

func (c *checking) childJudged(e *Endpoint, s *sa, v ChildJudged) {
	if c.next != nil {
		c.next.childJudged(e, s, v)
	}
}

// refuse turns the peer away: it learns nothing but that (RFC 7296 §2.21.2).
func (c *checking) refuse(e *Endpoint, s *sa, r Reason, err error) {
	e.notice(s, r, "peer refused: "+err.Error())
	failed := notify(wire.AuthenticationFailed)
	if c.wish == nil {
		e.reject(s, failed, err)
		return
	}
	e.goodbye(s, err, failed) // the peer thinks that the IKE SA is up
}

// up makes the IKE SA established. m is the peer's message of IKE_AUTH.
func (e *Endpoint) up(s *sa, hs *handshake, m *message) {
	n := s.session
	e.halfOpenEnded(s)
	n.up, n.heard, n.spoke = true, e.now, e.now
	e.stats.SAs++
	s.state = establishedSA{}
	s.until = never
	e.age(s)
	lower := hs.ni
	if lessNonce(hs.nr, hs.ni) {
		lower = hs.nr
	}
	e.do(SAUp{
		SA: n.handle, Initiator: s.initiator, Local: s.local, Remote: s.remote, Peer: n.peer, NAT: n.nat,
		InitialContact: hasNotify(&m.Message, wire.InitialContact), Nonce: lower, Btns: n.btns, Suite: e.names[s.suite],
		Binding: hs.binding(s.initiator), Own: hs.own, Instance: e.instanceOf(s, &m.Message),
	})
	hs.wipe()
}

// join ends the handshake of the initiator: the IKE SA is up whatever becomes of the child (RFC 7296 §1.2).
func (c *checking) join(e *Endpoint, s *sa) {
	e.up(s, c.hs, c.m)
	if c.wish.Child == nil {
		e.pump(s)
		return
	}
	t := &makeChild{req: *c.wish.Child, ni: c.hs.ni, auth: true}
	t.req.KE = nil
	s.own = &request{task: t, begun: true}
	t.accept(e, s, c.m, c.hs.nr, nil)
}
