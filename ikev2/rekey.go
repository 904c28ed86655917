package ikev2

import (
	"encoding/binary"
	"slices"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// fresh is an IKE SA in the making under an old one (RFC 7296 §1.3.2, §2.18).
type fresh struct {
	suite  suite.IKE
	spii   uint64
	spir   uint64
	ni, nr []byte
	shared [][]byte // of the first key exchange and of those that follow (RFC 9370 §2.2.4)
}

func (f *fresh) low() []byte { return lower(f.ni, f.nr) }

func (f *fresh) complete() bool { return len(f.shared) == 1+len(f.suite.AddKE) }

// make derives the keys of the new IKE SA. Its initiator is whoever began the exchange.
func (f *fresh) make(e *Endpoint, old *sa, initiator bool) (*sa, error) {
	n := old.session
	seed := suite.RekeySKEYSEED(old.suite.PRF, old.skd, f.shared[0], f.ni, f.nr, f.shared[1:]...)
	suite.Wipe(f.shared...)
	keys, err := suite.DeriveKeys(f.suite, seed, f.ni, f.nr, f.spii, f.spir)
	if err != nil {
		return nil, err
	}
	ours := f.spir
	if initiator {
		ours = f.spii
	}
	s := e.newSA(n, initiator, ours, old.path)
	s.spii, s.spir = f.spii, f.spir
	s.suite, s.fragments, s.state = e.intern(f.suite), old.fragments, establishedSA{}
	if err = e.protectWith(s, keys); err != nil {
		e.remove(s)
		return nil, err
	}
	suite.Wipe(keys.Pi, keys.Pr)
	e.age(s)
	n.toTurn().others = append(n.toTurn().others, s)
	return s, nil
}

// adopt makes s the IKE SA that the session, its children and its tasks go on under. Message IDs begin at 0 there.
func (e *Endpoint) adopt(n *session, s *sa) {
	old := n.current
	e.unlist(s)
	n.current, n.toTurn().rival, n.toTurn().follow = s, nil, nil
	n.toTurn().others = append(n.toTurn().others, old)
	n.rekeys++
	n.toTurn().tries = 0
	n.queue = slices.DeleteFunc(n.queue, isRekeySA) // done
	n.toTurn().later = slices.DeleteFunc(n.toTurn().later, func(d delayed) bool { return isRekeySA(d.task) })
	e.touch(s)
	e.touch(old)
	e.do(SARekeyed{SA: n.handle})
}

func isRekeySA(t task) bool {
	_, ok := t.(*rekeySA)
	return ok
}

// rekeySA replaces an IKE SA by a new one under the same transforms.
type rekeySA struct {
	simple
	offer     []Proposal
	f         fresh
	spi       uint64
	making    *generate
	agreeing  *agree
	private   *suite.Private
	blob      []byte // of the peer, between key exchanges
	low       []byte // the lower nonce of the peer's crossing rekey
	abandoned bool
}

func (t *rekeySA) start(e *Endpoint, s *sa) bool {
	if s.session.turn().follow.alive(e.now) { // the peer's is under way
		return false
	}
	t.offer = []Proposal{ProposalOf(*s.suite)}
	t.spi = e.spi()
	t.f = fresh{ni: e.nonce(), spii: t.spi}
	t.generate(e, s, s.suite.KE)
	return true
}

func (t *rekeySA) generate(e *Endpoint, s *sa, k suite.KE) {
	t.making = &generate{jobOf: jobOf{s}, ke: k, seed: e.seed()}
	e.compute(t.making)
}

func (t *rekeySA) computed(e *Endpoint, s *sa, j work) {
	switch {
	case t.abandoned:
	case j == work(t.making):
		g := t.making
		t.making = nil
		if g.err != nil {
			e.notice(s, Internal, g.err.Error())
			t.again(e, s)
			return
		}
		t.private = g.private
		if len(t.f.shared) > 0 {
			e.send(s, t, wire.IKEFollowupKE, e.usual(s), keOf(g.ke, g.private.Public()), notify(wire.AdditionalKeyExchange, t.blob...))
			return
		}
		e.send(s, t, wire.CreateChildSA, e.usual(s),
			payload(wire.PayloadSA, ikeSA(t.offer, spi64(t.spi))), nonceOf(t.f.ni), keOf(g.ke, g.private.Public()))
	case j == work(t.agreeing):
		a := t.agreeing
		t.agreeing = nil
		if a.err != nil {
			e.count(BadPublicValue)
			e.fail(s, 0, "bad public value in the rekeying of an IKE SA")
			return
		}
		t.f.shared = append(t.f.shared, a.shared)
		t.next(e, s)
	}
}

func (t *rekeySA) answered(e *Endpoint, s *sa, m *message) {
	n := s.session
	if t.abandoned {
		return
	}
	if x := errorOf(&m.Message); x != 0 {
		t.refused(e, s, x)
		return
	}
	n.toTurn().failing, n.toTurn().tries = 0, 0
	s.own = &request{task: t, begun: true}
	ke, hasKE := wire.Find[wire.KE](m.Message, wire.PayloadKE)
	if m.Exchange == wire.CreateChildSA {
		sa, _ := wire.Find[wire.SA](m.Message, wire.PayloadSA)
		nonce, _ := wire.Find[wire.Nonce](m.Message, wire.PayloadNonce)
		chosen, spi, ok := acceptIKE(sa, t.offer, 8)
		if !ok || binary.BigEndian.Uint64(spi) == 0 {
			e.fail(s, 0, "the rekeying of the IKE SA is answered by something that was not offered")
			return
		}
		t.f.suite, t.f.nr, t.f.spir = chosen, nonce.Data, binary.BigEndian.Uint64(spi)
	}
	k := t.private.KE()
	if !hasKE || suite.KE(ke.Method) != k || len(ke.Data) != k.ResponderLen() {
		e.count(BadPublicValue)
		e.fail(s, 0, "the rekeying of the IKE SA is answered by another key exchange")
		return
	}
	t.blob = nil
	if v, ok := m.Notify(wire.AdditionalKeyExchange); ok {
		t.blob = v.Data
	}
	t.agreeing = &agree{jobOf: jobOf{s}, private: t.private, peer: ke.Data}
	e.compute(t.agreeing)
}

func (t *rekeySA) refused(e *Endpoint, s *sa, x wire.NotifyType) {
	n := s.session
	e.count(PeerError)
	switch {
	case x == wire.InvalidSyntax:
		e.drop(s, &RefusedError{Notify: uint16(x), Authenticated: true})
	case n.turn().rival != nil: // the peer's own rekey, which is complete, stands
		e.adopt(n, n.turn().rival)
		e.replaced(s)
		e.pump(n.current)
	case x == wire.TemporaryFailure:
		e.postpone(s, &rekeySA{}, &n.toTurn().tries)
	default:
		t.again(e, s)
	}
}

// again tries once more later; the hard lifetime bounds that.
func (t *rekeySA) again(e *Endpoint, s *sa) {
	s.soft = e.now.add(rekeyAgain)
	e.release(s)
}

// next goes on after a key exchange: with the next one, or with the new IKE SA.
func (t *rekeySA) next(e *Endpoint, s *sa) {
	n := s.session
	if t.f.complete() {
		t.finish(e, s)
		return
	}
	if t.blob == nil {
		e.fail(s, 0, "the peer does not go on with the key exchanges that it chose")
		return
	}
	if n.turn().follow.alive(e.now) { // two rekeys cross before anything is set up: the loser simply stops (ikev2.md §7.3)
		if lessNonce(t.f.low(), n.turn().follow.f.low()) {
			t.abandoned = true
			e.release(s)
			return
		}
		n.toTurn().follow = nil
	}
	t.generate(e, s, t.f.suite.AddKE[len(t.f.shared)-1])
}

func (t *rekeySA) finish(e *Endpoint, s *sa) {
	n := s.session
	s.own = nil
	made, err := t.f.make(e, s, true)
	if err != nil {
		e.fail(s, 0, err.Error())
		return
	}
	rival := n.turn().rival
	switch {
	case rival == nil:
		e.adopt(n, made)
		e.leave(s, false)
	case lessNonce(t.f.low(), t.low): // ours is redundant: we delete it, the peer deletes the old one
		e.adopt(n, rival)
		e.replaced(s)
		e.leave(made, false)
	default:
		e.adopt(n, made)
		e.leave(s, false)
		e.replaced(rival)
	}
	e.pump(n.current)
}

// followed is a rekey by the peer that needs IKE_FOLLOWUP_KE.
type followed struct {
	f     fresh
	blob  []byte
	until instant
}

func (w *followed) alive(now instant) bool { return w != nil && now < w.until }

// maxOthers bounds the IKE SAs of a session that were replaced and not yet deleted by the peer.
const maxOthers = 8

// answerRekey grants a new IKE SA.
type answerRekey struct {
	c     chosenIKE
	f     fresh
	job   *respond
	first bool // CREATE_CHILD_SA, not IKE_FOLLOWUP_KE
}

func (e *Endpoint) answerRekey(s *sa, m *message, sa wire.SA, ni []byte) {
	n := s.session
	ke, hasKE := wire.Find[wire.KE](m.Message, wire.PayloadKE)
	switch s.task().(type) {
	case *makeChild, *deleteChild:
		if s.own.begun {
			e.count(Collision)
			e.reply(s, notify(wire.TemporaryFailure))
			return
		}
	}
	if t := n.turn(); n.closing || s != n.current || t.rival != nil || len(t.others) >= maxOthers || t.follow.alive(e.now) || t.followChild.alive(e.now) {
		e.count(Collision)
		e.reply(s, notify(wire.TemporaryFailure))
		return
	}
	ours := e.cfg.IKE
	if n.override != nil && len(n.override.IKE) > 0 {
		ours = n.override.IKE
	}
	c, ok := chooseIKE(sa, append([]Proposal{ProposalOf(*s.suite)}, ours...), suite.KE(ke.Method), true, 8)
	switch {
	case !ok || binary.BigEndian.Uint64(c.spi) == 0:
		e.count(NoProposal)
		e.reply(s, notify(wire.NoProposalChosen))
		return
	case !hasKE:
		e.notice(s, BadSyntax, "IKE SA rekeying without KE")
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "IKE SA rekeying without KE"})
		return
	case suite.KE(ke.Method) != c.KE:
		e.count(OtherKE)
		e.reply(s, notify(wire.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, uint16(c.KE))...))
		return
	}
	if s.own != nil && !s.own.begun { // what we were only preparing gives way
		e.yieldOwn(s)
	}
	a := &answerRekey{c: c, first: true}
	a.f = fresh{suite: c.IKE, spii: binary.BigEndian.Uint64(c.spi), spir: e.spi(), ni: ni, nr: e.nonce()}
	a.compute(e, s, c.KE, ke.Data)
}

// yieldOwn takes a task that has sent nothing out of the window. A rekey of the IKE SA is forgotten: the peer does it.
func (e *Endpoint) yieldOwn(s *sa) {
	t := s.own.task
	s.own = nil
	switch t := t.(type) {
	case *rekeySA:
		t.abandoned = true
	case *makeChild:
		t.making, t.agreeing = nil, nil
		s.session.queue = append([]task{t}, s.session.queue...)
	}
}

func (a *answerRekey) compute(e *Endpoint, s *sa, k suite.KE, peer []byte) {
	a.job = &respond{jobOf: jobOf{s}, ke: k, seed: e.seed(), peer: peer}
	s.asking.work = a
	e.compute(a.job)
}

func (*answerRekey) childJudged(*Endpoint, *sa, ChildJudged) {}

func (a *answerRekey) computed(e *Endpoint, s *sa, j work) {
	if j != work(a.job) {
		return
	}
	if a.job.err != nil {
		e.notice(s, BadPublicValue, "bad public value in the rekeying of an IKE SA")
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "bad public value"})
		return
	}
	n := s.session
	a.f.shared = append(a.f.shared, a.job.shared)
	var ps []wire.Payload
	if a.first {
		ps = append(ps, payload(wire.PayloadSA, a.c.answerSA(spi64(a.f.spir))), nonceOf(a.f.nr))
	}
	ps = append(ps, keOf(a.job.ke, a.job.public))
	if !a.f.complete() {
		w := &followed{f: a.f, blob: make([]byte, 16), until: e.now.add(e.cfg.HalfOpenTime)}
		e.fill(w.blob)
		e.reply(s, append(ps, notify(wire.AdditionalKeyExchange, w.blob...))...)
		a.outbid(e, s, w)
		return
	}
	n.toTurn().follow = nil
	e.reply(s, ps...)
	made, err := a.f.make(e, s, false)
	if err != nil {
		e.notice(s, Internal, err.Error())
		return
	}
	if t, ok := s.task().(*rekeySA); ok && s.own.begun && !t.abandoned { // the nonces will decide (RFC 7296 §2.8.2)
		n.toTurn().rival, t.low = made, a.f.low()
		return
	}
	e.adopt(n, made)
	e.replaced(s)
	e.pump(made)
}

// outbid keeps the peer's unfinished rekey, unless ours, unfinished too, stays (ikev2.md §7.3).
func (a *answerRekey) outbid(e *Endpoint, s *sa, w *followed) {
	if t, ok := s.task().(*rekeySA); ok && t.f.nr != nil && !t.abandoned {
		if !lessNonce(t.f.low(), w.f.low()) {
			return
		}
		t.abandoned = true
		if !s.own.sent() {
			s.own = nil
		}
	}
	s.session.toTurn().follow = w
}
