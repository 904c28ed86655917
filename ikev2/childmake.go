package ikev2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// childPayloads is the part of a request that asks for a child; nonce and private are nil in IKE_AUTH.
func childPayloads(r *ChildRequest, rekeys *child, nonce []byte, private *suite.Private) (ps []wire.Payload, ok bool) {
	tsi, okI := tsPayload(wire.PayloadTSi, r.Local)
	tsr, okR := tsPayload(wire.PayloadTSr, r.Remote)
	if !okI || !okR || len(r.Offer) == 0 || r.SPI == 0 {
		return nil, false
	}
	if rekeys != nil {
		ps = append(ps, notifyChild(wire.RekeySA, rekeys.spiIn))
	}
	if r.Mode == protect.Transport {
		ps = append(ps, notify(wire.UseTransportMode))
	}
	ps = append(ps, payload(wire.PayloadSA, espSA(r.Offer, r.KE, r.SPI)))
	if nonce != nil {
		ps = append(ps, nonceOf(nonce))
	}
	if private != nil {
		ps = append(ps, keOf(private.KE(), private.Public()))
	}
	return append(ps, tsi, tsr), true
}

// makeChild asks for a child: a new one, or a rekey of old (RFC 7296 §1.3.1, §1.3.3).
type makeChild struct {
	simple
	req      ChildRequest
	old      *child // nil: new
	auth     bool   // in IKE_AUTH
	ni       []byte
	ke       suite.KE
	private  *suite.Private
	making   *generate
	agreeing *agree
	kes      int // INVALID_KE_PAYLOAD followed
	tries    int // TEMPORARY_FAILURE in a row
	crossed  *crossing
	answer   *childAnswer
	dead     []uint32 // SPIs unknown to us that the peer deleted meanwhile: one may be in the answer under way
	waits    Stage    // for which verdict of the judge
}

// crossing is the peer's rekey of what we rekey too (RFC 7296 §2.8.1).
type crossing struct {
	child *child
	low   []byte // the lower nonce of that exchange
}

type childAnswer struct {
	chosen chosenESP
	mode   protect.Mode
	views  views
	nr     []byte
	shared []byte
}

func (t *makeChild) start(e *Endpoint, s *sa) bool {
	if t.old != nil {
		if !slices.Contains(s.session.children, t.old) || t.old.deleting || t.old.heir != 0 {
			t.fail(e, s, nil) // it may have been asked for before: an SPI is kept for it
			return false
		}
		t.old.rekeying = true
		if t.req.ID == 0 {
			t.req.ID = e.NewChild()
			t.waits = Propose
			e.do(e.judgeChild(s, Propose, t.req.ID, t.old.id, t.old.mode, t.old.local, t.old.remote))
			return true
		}
	}
	t.prepare(e, s)
	return true
}

// judgeChild fills in what every question about a child says.
func (e *Endpoint) judgeChild(s *sa, at Stage, id, rekeys ChildID, mode protect.Mode, local, remote selector.Set) JudgeChild {
	n := s.session
	met := n.met()
	return JudgeChild{
		SA: n.handle, Child: id, Stage: at, Rekeys: rekeys, Local: local, Remote: remote, Mode: mode, Peer: n.peer, NAT: n.nat,
		LocalAddr: met.local.Addr(), RemoteAddr: met.remote.Addr(),
	}
}

// prepare makes the secret of the exchange, if it has one, and sends.
func (t *makeChild) prepare(e *Endpoint, s *sa) {
	k := t.ke
	if k == suite.NoKE && len(t.req.KE) > 0 {
		k = suite.KE(t.req.KE[0])
	}
	if k != suite.NoKE {
		t.making = &generate{jobOf: jobOf{s}, ke: k, seed: e.seed()}
		e.compute(t.making)
		return
	}
	t.transmit(e, s)
}

func (t *makeChild) transmit(e *Endpoint, s *sa) {
	if t.old != nil && t.old.heir != 0 || t.old != nil && t.old.deleting { // the peer was faster
		t.fail(e, s, nil)
		e.release(s)
		return
	}
	t.ni = e.nonce()
	ps, ok := childPayloads(&t.req, t.old, t.ni, t.private)
	if !ok {
		t.fail(e, s, &ProtocolError{What: "the child that was asked for cannot be put in a message"})
		e.release(s)
		return
	}
	e.send(s, t, wire.CreateChildSA, e.usual(s), ps...)
}

func (t *makeChild) computed(e *Endpoint, s *sa, j work) {
	switch {
	case j == work(t.making):
		g := t.making
		t.making = nil
		if g.err != nil {
			t.fail(e, s, g.err)
			e.release(s)
			return
		}
		t.ke, t.private = g.ke, g.private
		t.transmit(e, s)
	case j == work(t.agreeing):
		a := t.agreeing
		t.agreeing = nil
		if a.err != nil { // RFC 7296 §2.12: the IKE SA is deleted
			e.count(BadPublicValue)
			e.fail(s, 0, "bad public value in CREATE_CHILD_SA")
			return
		}
		t.answer.shared = a.shared
		t.ask(e, s)
	}
}

func (t *makeChild) answered(e *Endpoint, s *sa, m *message) {
	if x := errorOf(&m.Message); x != 0 {
		t.refused(e, s, m, x)
		return
	}
	if s.session.turn().failing != 0 {
		s.session.toTurn().failing = 0
	}
	nonce, _ := wire.Find[wire.Nonce](m.Message, wire.PayloadNonce)
	s.own = &request{task: t, begun: true}
	var ke *wire.KE
	if k, ok := wire.Find[wire.KE](m.Message, wire.PayloadKE); ok {
		ke = &k
	}
	t.accept(e, s, m, nonce.Data, ke)
}

// refused is told of an error notify.
func (t *makeChild) refused(e *Endpoint, s *sa, m *message, x wire.NotifyType) {
	n := s.session
	e.count(PeerError)
	switch x {
	case wire.InvalidKEPayload:
		v, _ := m.Notify(x)
		if len(v.Data) == 2 && t.kes < maxOtherKEs {
			k := binary.BigEndian.Uint16(v.Data)
			if slices.Contains(t.req.KE, k) && suite.KE(k).Supported() && suite.KE(k) != t.ke {
				t.kes++
				t.ke = suite.KE(k)
				s.own = &request{task: t} // a new exchange (RFC 7296 §1.3)
				t.prepare(e, s)
				return
			}
		}
	case wire.NoProposalChosen:
		if len(t.req.KE) == 0 { // perhaps the peer wants forward secrecy
			t.req.KE = anyKE(s.suite.KE)
			s.own = &request{task: t}
			t.prepare(e, s)
			return
		}
	case wire.TemporaryFailure:
		if t.crossed != nil {
			t.fail(e, s, nil)
			return
		}
		if e.postpone(s, t, &t.tries) {
			if t.old != nil {
				t.old.rekeying = false
			}
			t.ke, t.private = suite.NoKE, nil
			return
		}
	case wire.ChildSANotFound:
		if t.old == nil {
			break
		}
		if t.crossed != nil || t.old.heir != 0 { // the peer's own rekey has done it (RFC 7296 §2.25.1)
			t.fail(e, s, nil)
			return
		}
		if slices.Contains(n.children, t.old) {
			e.childDown(n, t.old, false, nil)
		}
		// The delete is for a peer whose own request made the old child and that has not had our answer yet.
		gone := &deleteChild{spi: t.old.spiIn}
		t.old, t.ke, t.private = nil, suite.NoKE, nil
		n.queue = append([]task{gone, t}, n.queue...) // the same selectors as a new child
		return
	case wire.InvalidSyntax: // fatal on both sides (RFC 7296 §3.10.1)
		e.drop(s, &RefusedError{Notify: uint16(x), Authenticated: true})
		return
	}
	t.fail(e, s, &RefusedError{Notify: uint16(x), Authenticated: true})
}

// anyKE is every plain key exchange method, k first.
func anyKE(k suite.KE) []uint16 {
	out := []uint16{uint16(k)}
	for _, x := range []suite.KE{suite.X25519, suite.P256, suite.P384, suite.MODP3072, suite.MODP2048, suite.MODP4096} {
		if x != k {
			out = append(out, uint16(x))
		}
	}
	return out
}

// accept checks a granted child against what was asked, and goes on to the judge.
func (t *makeChild) accept(e *Endpoint, s *sa, m *message, nr []byte, ke *wire.KE) {
	if x := errorOf(&m.Message); x != 0 { // in IKE_AUTH, beside IDr and AUTH: the IKE SA stays (RFC 7296 §1.2)
		e.count(PeerError)
		t.fail(e, s, &RefusedError{Notify: uint16(x), Authenticated: true})
		e.release(s)
		return
	}
	sa, hasSA := wire.Find[wire.SA](m.Message, wire.PayloadSA)
	tsi, hasI := wire.Find[wire.TS](m.Message, wire.PayloadTSi)
	tsr, hasR := wire.Find[wire.TS](m.Message, wire.PayloadTSr)
	chosen, ok := acceptESP(sa, t.req.Offer, t.req.KE)
	if !hasSA || !hasI || !hasR || !ok {
		t.reject(e, s, "the answer is not a choice from our offer")
		return
	}
	a := &childAnswer{chosen: chosen, mode: protect.Tunnel, nr: nr}
	if hasNotify(&m.Message, wire.UseTransportMode) {
		a.mode = protect.Transport
	}
	if a.mode == protect.Transport && t.req.Mode != protect.Transport || t.req.Strict && a.mode != t.req.Mode {
		t.reject(e, s, fmt.Sprintf("asked for %v mode, answered %v", t.req.Mode, a.mode))
		return
	}
	a.views = views{local: setOf(tsi), remote: setOf(tsr)}
	if a.mode == protect.Transport {
		a.views = substitute(a.views.local, a.views.remote, s.session.nat, s.session.met())
	}
	if len(a.views.local) == 0 || len(a.views.remote) == 0 || !t.req.Local.Covers(a.views.local) || !t.req.Remote.Covers(a.views.remote) {
		t.reject(e, s, fmt.Sprintf("the answer has selectors that were not offered: %v and %v", a.views.local, a.views.remote))
		return
	}
	t.answer = a
	if chosen.ke == suite.NoKE {
		t.ask(e, s)
		return
	}
	if ke == nil || suite.KE(ke.Method) != chosen.ke || t.private == nil || chosen.ke != t.ke || len(ke.Data) != t.ke.ResponderLen() {
		e.count(BadPublicValue)
		e.fail(s, 0, "CREATE_CHILD_SA answers with another key exchange")
		return
	}
	t.agreeing = &agree{jobOf: jobOf{s}, private: t.private, peer: ke.Data}
	e.compute(t.agreeing)
}

func (t *makeChild) ask(e *Endpoint, s *sa) {
	t.waits = Answered
	e.do(e.judgeChild(s, Answered, t.req.ID, t.oldID(), t.answer.mode, t.answer.views.local, t.answer.views.remote))
}

func (t *makeChild) oldID() ChildID {
	if t.old == nil {
		return 0
	}
	return t.old.id
}

func (t *makeChild) childJudged(e *Endpoint, s *sa, v ChildJudged) {
	if v.Child != t.req.ID || t.waits == 0 {
		return
	}
	stage := t.waits
	t.waits = 0
	switch {
	case stage == Propose && v.Refuse != nil:
		t.fail(e, s, v.Refuse)
		e.release(s)
	case stage == Propose:
		t.req = ChildRequest{
			ID: v.Child, SPI: v.SPI, Local: v.Local, Remote: v.Remote, Mode: v.Mode, Strict: true,
			Offer: v.Offer, KE: v.KE, Lifetime: v.Lifetime,
		}
		t.prepare(e, s)
	case v.Refuse != nil:
		e.count(RefusedChild)
		t.discard(e, s, v.Refuse)
	default:
		t.install(e, s)
	}
}

// install puts the granted child in force, and settles which of two crossing rekeys stays.
func (t *makeChild) install(e *Endpoint, s *sa) {
	a, n := t.answer, s.session
	if slices.Contains(t.dead, a.chosen.spi) {
		t.fail(e, s, &ProtocolError{What: "the peer deleted the child before its answer came"})
		e.release(s)
		return
	}
	out, in, err := suite.ChildKeys(s.suite.PRF, s.skd, a.shared, t.ni, a.nr, nil, a.chosen.Suite)
	suite.Wipe(a.shared)
	if err != nil {
		t.discard(e, s, err)
		return
	}
	loses := false
	if t.crossed != nil {
		loses = lessNonce(lower(t.ni, a.nr), t.crossed.low)
	}
	c := &child{id: t.req.ID, spiIn: t.req.SPI, spiOut: a.chosen.spi, mode: a.mode}
	c.carry(a.views.local, a.views.remote)
	e.addChild(n, c, t.req.Lifetime)
	c.sending = !loses
	up := ChildUp{
		SA: n.handle, Child: c.id, Initiator: true, UseNow: !loses, Suite: a.chosen.Suite, Mode: a.mode,
		SPIIn: c.spiIn, SPIOut: c.spiOut, KeysIn: in, KeysOut: out, Replaces: t.oldID(), Lifetime: t.req.Lifetime,
	}
	e.childUp(s, c, up, a.views)
	t.settle(e, s, c, loses)
	s.own = nil
	e.pump(s)
}

// settle deletes what is redundant now: the replaced child, or ours if a crossing rekey of the peer stays (RFC 7296
// §2.8.1). The peer deletes the other one.
func (t *makeChild) settle(e *Endpoint, s *sa, c *child, loses bool) {
	n := s.session
	if t.old == nil {
		return
	}
	t.old.rekeying = false
	if s.asking != nil {
		if a, ok := s.asking.work.(*answerChild); ok && a.old == t.old { // the peer's is still being answered
			a.mine, a.low = c, lower(t.ni, t.answer.nr)
			return
		}
	}
	if loses {
		t.old.heir = t.crossed.child.id
		e.use(n, t.crossed.child)
		e.deleteLater(n, c)
		return
	}
	t.old.heir = c.id
	if slices.Contains(n.children, t.old) && !t.old.deleting {
		e.deleteLater(n, t.old)
	}
}

// reject gives a child back that does not fit: the peer has it, so it is deleted there.
func (t *makeChild) reject(e *Endpoint, s *sa, what string) {
	e.notice(s, RefusedChild, what)
	t.discard(e, s, &ProtocolError{What: what})
}

func (t *makeChild) discard(e *Endpoint, s *sa, err error) {
	s.session.queue = append([]task{&deleteChild{spi: t.req.SPI}}, s.session.queue...)
	t.fail(e, s, err)
	e.release(s)
}

// fail reports that the child will not come. A rekey is tried again while there is time.
func (t *makeChild) fail(e *Endpoint, s *sa, err error) {
	if t.req.ID != 0 {
		e.do(ChildFailed{SA: s.session.handle, Child: t.req.ID, Err: err})
	}
	if t.old == nil {
		return
	}
	t.old.rekeying = false
	if t.crossed != nil {
		t.old.heir = t.crossed.child.id
	}
	if err != nil && t.old.heir == 0 && slices.Contains(s.session.children, t.old) {
		t.old.soft = e.now.add(rekeyAgain)
		e.notice(s, PeerError, "rekeying a child failed: "+err.Error())
	}
}

const (
	rekeyAgain   = 30 * time.Second // after a refused rekey
	failingLimit = 5 * time.Minute  // of TEMPORARY_FAILURE (RFC 7296 §2.25)
	backOff      = time.Second
	backOffCap   = 30 * time.Second
)

// postpone puts a task off that met TEMPORARY_FAILURE, for longer each time. It reports false when that has gone on for so
// long that the IKE SA is closed instead (RFC 7296 §2.25).
func (e *Endpoint) postpone(s *sa, t task, tries *int) bool {
	n := s.session
	if n.turn().failing == 0 {
		n.toTurn().failing = max(e.now, 1)
	}
	if e.now >= n.turn().failing.add(failingLimit) {
		e.goodbye(s, &ProtocolError{What: "the peer answers TEMPORARY_FAILURE all the time"})
		return true
	}
	wait := min(backOff<<min(*tries, 10), backOffCap)
	*tries++
	n.toTurn().later = append(n.toTurn().later, delayed{e.now.add(wait + time.Duration(e.dice.Float64()*float64(wait))), t})
	return true
}

// lessNonce compares as RFC 7296 §2.8.1 does: octet by octet, a proper prefix is lower.
func lessNonce(a, b []byte) bool { return bytes.Compare(a, b) < 0 }

func lower(a, b []byte) []byte {
	if lessNonce(b, a) {
		return b
	}
	return a
}
