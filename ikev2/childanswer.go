package ikev2

import (
	"encoding/binary"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// answerChild grants a child that the peer asks for, or refuses it; in IKE_AUTH it is part of a longer answer.
type answerChild struct {
	auth   bool
	ni, nr []byte
	sa     wire.SA
	ke     *wire.KE
	id     ChildID
	old    *child // it is a rekey of this one
	mode   protect.Mode
	asked  [2]selector.Set // local and remote as the peer named them
	views  views
	waits  bool
	fell   bool // back to tunnel mode, without substitution
	chosen chosenESP
	spi    uint32
	life   protect.Lifetime
	job    *respond
	public []byte
	shared []byte
	more   [][]byte // of IKE_FOLLOWUP_KE
	refuse *wire.Payload
	mine   *child // what our own rekey of the same child made, if that ended first
	low    []byte // the lower nonce of that
}

// ask puts the question to the judge. It reports false when the answer is clear without it.
func (a *answerChild) ask(e *Endpoint, s *sa, m *wire.Message) bool {
	a.sa, _ = wire.Find[wire.SA](*m, wire.PayloadSA)
	tsi, _ := wire.Find[wire.TS](*m, wire.PayloadTSi)
	tsr, _ := wire.Find[wire.TS](*m, wire.PayloadTSr)
	if k, ok := wire.Find[wire.KE](*m, wire.PayloadKE); ok && !a.auth {
		a.ke = &k
	}
	a.id = e.NewChild()
	a.asked = [2]selector.Set{setOf(tsr), setOf(tsi)}
	a.mode = protect.Tunnel
	a.views = views{local: a.asked[0], remote: a.asked[1]}
	if hasNotify(m, wire.UseTransportMode) {
		a.mode = protect.Transport
		a.views = substitute(a.asked[0], a.asked[1], s.session.nat, s.session.met())
	}
	switch {
	case len(a.asked[0]) == 0 || len(a.asked[1]) == 0:
		return a.decline(e, s, wire.TSUnacceptable)
	case len(s.session.children) >= e.cfg.MaxChildren && (a.old == nil || len(s.session.children) >= 2*e.cfg.MaxChildren):
		return a.decline(e, s, wire.NoAdditionalSAs)
	}
	a.question(e, s)
	return true
}

func (a *answerChild) question(e *Endpoint, s *sa) {
	a.waits = true
	rekeys := ChildID(0)
	if a.old != nil {
		rekeys = a.old.id
	}
	e.do(e.judgeChild(s, Asked, a.id, rekeys, a.mode, a.views.local, a.views.remote))
}

// decline refuses; it returns false so that it can end ask. A judge that has already given an SPI is told.
func (a *answerChild) decline(e *Endpoint, s *sa, t wire.NotifyType, data ...byte) bool {
	e.count(RefusedChild)
	if a.spi != 0 {
		e.do(ChildFailed{SA: s.session.handle, Child: a.id, Err: &ProtocolError{Notify: uint16(t), What: "the child that the peer asked for is refused"}})
	}
	p := notify(t, data...)
	a.refuse = &p
	return false
}

// judged takes the verdict and reports whether the answer is ready.
func (a *answerChild) judged(e *Endpoint, s *sa, v ChildJudged) bool {
	if !a.waits || v.Child != a.id {
		return false
	}
	a.waits = false
	if a.mode == protect.Transport && (v.Refuse != nil || v.Mode != protect.Transport) && a.views.sawLocal.IsValid() && !a.fell {
		a.fell = true // RFC 7296 §2.23.1: undo the substitution and look for a tunnel
		a.mode, a.views = protect.Tunnel, views{local: a.asked[0], remote: a.asked[1]}
		a.question(e, s)
		return false
	}
	if v.Refuse != nil || len(v.Local) == 0 || len(v.Remote) == 0 || v.SPI == 0 {
		a.decline(e, s, wire.TSUnacceptable)
		return true
	}
	if v.Mode != protect.Transport {
		a.mode = protect.Tunnel
	}
	a.views.local, a.views.remote = v.Local.Wire(), v.Remote.Wire()
	a.spi, a.life = v.SPI, v.Lifetime
	return a.choose(e, s, v)
}

// choose settles the transforms and has the key exchange computed, if there is one.
func (a *answerChild) choose(e *Endpoint, s *sa, v ChildJudged) bool {
	method := suite.NoKE
	if a.ke != nil {
		method = suite.KE(a.ke.Method)
	}
	var ok bool
	if a.chosen, ok = chooseESP(a.sa, v.Offer, method, v.KE, a.auth); !ok {
		a.decline(e, s, wire.NoProposalChosen)
		return true
	}
	k := a.chosen.ke
	if k == suite.NoKE {
		return true
	}
	if method != k { // RFC 7296 §1.3: the peer tries again with that one
		a.decline(e, s, wire.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, uint16(k))...)
		return true
	}
	a.job = &respond{jobOf: jobOf{s}, ke: k, seed: e.seed(), peer: a.ke.Data}
	e.compute(a.job)
	return false
}

func (a *answerChild) childJudged(e *Endpoint, s *sa, v ChildJudged) {
	if a.judged(e, s, v) {
		a.finish(e, s)
	}
}

func (a *answerChild) computed(e *Endpoint, s *sa, j work) {
	if a.job == nil || j != work(a.job) {
		return
	}
	if a.job.err != nil { // a bad public value in a protected request ends the IKE SA
		e.notice(s, BadPublicValue, "bad public value in CREATE_CHILD_SA")
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "bad public value"})
		return
	}
	a.public, a.shared, a.job = a.job.public, a.job.shared, nil
	a.finish(e, s)
}

func (a *answerChild) finish(e *Endpoint, s *sa) {
	if a.refuse == nil && len(a.chosen.further()) > 0 {
		e.waitFollowUp(s, a)
		return
	}
	e.reply(s, a.install(e, s)...)
	e.pump(s)
}

// terms are the payloads of a grant.
func (a *answerChild) terms() (ps []wire.Payload, ok bool) {
	tsi, okI := tsPayload(wire.PayloadTSi, a.views.remote)
	tsr, okR := tsPayload(wire.PayloadTSr, a.views.local)
	if a.mode == protect.Transport {
		ps = append(ps, notify(wire.UseTransportMode))
	}
	ps = append(ps, payload(wire.PayloadSA, a.chosen.answerSA(a.spi)))
	if !a.auth {
		ps = append(ps, nonceOf(a.nr))
	}
	if a.public != nil {
		ps = append(ps, keOf(a.chosen.ke, a.public))
	}
	return append(ps, tsi, tsr), okI && okR
}

// install puts the child in force and returns what to answer.
func (a *answerChild) install(e *Endpoint, s *sa) []wire.Payload {
	if a.refuse != nil {
		a.settleMine(e, s, nil)
		return []wire.Payload{*a.refuse}
	}
	n := s.session
	if a.nr == nil {
		a.nr = e.nonce()
	}
	ps, ok := a.terms()
	in, out, err := suite.ChildKeys(s.suite.PRF, s.skd, a.shared, a.ni, a.nr, a.more, a.chosen.Suite)
	suite.Wipe(append(a.more, a.shared)...)
	if err != nil || !ok {
		e.count(Internal)
		return []wire.Payload{notify(wire.NoProposalChosen)}
	}
	c := &child{
		id: a.id, spiIn: a.spi, spiOut: a.chosen.spi, mode: a.mode, sending: a.old == nil,
	}
	c.carry(a.views.local, a.views.remote)
	e.addChild(n, c, a.life)
	up := ChildUp{
		SA: n.handle, Child: c.id, UseNow: c.sending, Suite: a.chosen.Suite, Mode: a.mode,
		SPIIn: c.spiIn, SPIOut: c.spiOut, KeysIn: in, KeysOut: out, Lifetime: a.life,
	}
	if a.old != nil {
		up.Replaces = a.old.id
	}
	e.childUp(s, c, up, a.views)
	a.cross(e, s, c)
	return ps
}

// cross notes that c came from a rekey of the peer. If ours of the same child is under way, the nonces will decide
// (RFC 7296 §2.8.1); else the peer's stands, and the peer deletes the old child.
func (a *answerChild) cross(e *Endpoint, s *sa, c *child) {
	if a.old == nil || a.settleMine(e, s, c) {
		return
	}
	if s.own != nil {
		if t, ok := s.own.task.(*makeChild); ok && t.old == a.old && s.own.begun {
			t.crossed = &crossing{child: c, low: lower(a.ni, a.nr)}
			return
		}
	}
	a.old.heir = c.id
}

// settleMine ends a collision in which our own rekey was complete before the peer's was answered.
func (a *answerChild) settleMine(e *Endpoint, s *sa, c *child) bool {
	if a.mine == nil {
		return false
	}
	n := s.session
	if c != nil && lessNonce(a.low, lower(a.ni, a.nr)) {
		a.old.heir = c.id
		e.use(n, c)
		e.deleteLater(n, a.mine)
		return true
	}
	a.old.heir = a.mine.id
	if n.childByID(a.old.id) == a.old {
		e.deleteLater(n, a.old)
	}
	return true
}
