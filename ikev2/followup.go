package ikev2

import (
	"bytes"
	"errors"
	"slices"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// followedChild is a child that the peer asks for with more than one key exchange (RFC 9370 §2.2.4). Nothing is installed
// before the last one.
type followedChild struct {
	a     *answerChild
	blob  []byte
	until instant
}

func (w *followedChild) alive(now instant) bool { return w != nil && now < w.until }

// waitFollowUp answers CREATE_CHILD_SA and waits for the rest.
func (e *Endpoint) waitFollowUp(s *sa, a *answerChild) {
	n := s.session
	a.nr = e.nonce()
	ps, ok := a.terms()
	if !ok {
		e.count(Internal)
		e.reply(s, notify(wire.NoProposalChosen))
		return
	}
	e.dropFollowed(n)
	w := &followedChild{a: a, blob: make([]byte, 16), until: e.now.add(e.cfg.HalfOpenTime)}
	e.fill(w.blob)
	n.toTurn().followChild = w
	e.reply(s, append(ps, notify(wire.AdditionalKeyExchange, w.blob...))...)
	e.pump(s)
}

// dropFollowed forgets a child that the peer does not finish, and says so to whoever gave its SPI.
func (e *Endpoint) dropFollowed(n *session) {
	if w := n.turn().followChild; w != nil {
		n.toTurn().followChild = nil
		e.do(ChildFailed{SA: n.handle, Child: w.a.id, Err: errUnfinished})
	}
}

var (
	errUnfinished = errors.New("ikev2: the peer did not finish the key exchanges of a child")
	errFollow     = errors.New("ikev2: IKE_FOLLOWUP_KE with another key exchange")
)

// followUp goes on with a rekey of the peer, or with a child (RFC 9370 §2.2.4).
func (e *Endpoint) followUp(s *sa, m *message) {
	n := s.session
	v, _ := m.Notify(wire.AdditionalKeyExchange)
	ke, _ := wire.Find[wire.KE](m.Message, wire.PayloadKE)
	var k suite.KE
	var a followUpAnswer
	w, c := n.turn().follow, n.turn().followChild
	switch {
	case w.alive(e.now) && s == n.current && bytes.Equal(v.Data, w.blob):
		k = w.f.suite.AddKE[len(w.f.shared)-1]
		a = &answerRekey{f: w.f}
	case c.alive(e.now) && bytes.Equal(v.Data, c.blob) && !c.a.outdated(n):
		k = c.a.chosen.further()[len(c.a.more)]
		a = &finishChild{a: c.a}
	default:
		if c != nil && bytes.Equal(v.Data, c.blob) {
			e.dropFollowed(n)
		}
		e.reply(s, notify(wire.StateNotFound))
		return
	}
	if suite.KE(ke.Method) != k {
		e.notice(s, BadSyntax, errFollow.Error())
		e.reject(s, notify(wire.InvalidSyntax), errFollow)
		return
	}
	a.compute(e, s, k, ke.Data)
}

type followUpAnswer interface {
	compute(e *Endpoint, s *sa, k suite.KE, peer []byte)
}

// outdated reports whether the child to be rekeyed was replaced or deleted meanwhile.
func (a *answerChild) outdated(n *session) bool {
	return a.old != nil && (a.old.heir != 0 || a.old.deleting || !slices.Contains(n.children, a.old))
}

// finishChild is IKE_FOLLOWUP_KE for a child.
type finishChild struct {
	a   *answerChild
	job *respond
}

func (x *finishChild) compute(e *Endpoint, s *sa, k suite.KE, peer []byte) {
	x.job = &respond{jobOf: jobOf{s}, ke: k, seed: e.seed(), peer: peer}
	s.asking.work = x
	e.compute(x.job)
}

func (*finishChild) childJudged(*Endpoint, *sa, ChildJudged) {}

func (x *finishChild) computed(e *Endpoint, s *sa, j work) {
	if j != work(x.job) {
		return
	}
	if x.job.err != nil {
		e.notice(s, BadPublicValue, "bad public value in IKE_FOLLOWUP_KE")
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "bad public value"})
		return
	}
	n, a := s.session, x.a
	a.more = append(a.more, x.job.shared)
	ps := []wire.Payload{keOf(x.job.ke, x.job.public)}
	if len(a.more) < len(a.chosen.further()) {
		w := n.turn().followChild
		e.fill(w.blob)
		w.until = e.now.add(e.cfg.HalfOpenTime)
		e.reply(s, append(ps, notify(wire.AdditionalKeyExchange, w.blob...))...)
		return
	}
	n.toTurn().followChild = nil
	a.install(e, s)
	e.reply(s, ps...)
	e.pump(s)
}
