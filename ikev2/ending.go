package ikev2

import (
	"slices"
	"time"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

const (
	// answerTime is how long an ended IKE SA still answers repetitions of the last request.
	answerTime = 30 * time.Second
	// replacedTime is how long a replaced IKE SA waits for the delete of whoever replaced it.
	replacedTime = 3 * time.Minute
)

// rejectedSA is over. What is left is the answer to the last request, for as long as that may come again.
type rejectedSA struct{ quiet }

func (rejectedSA) phase() phase { return rejected }

// retire leaves of s nothing but its last answer.
func (e *Endpoint) retire(s *sa) {
	e.halfOpenEnded(s)
	e.lose(s)
	s.state = rejectedSA{}
	s.wipe()
	s.own, s.asking = nil, nil
	s.parts = nil
	s.soft, s.hard, s.until = never, never, e.now.add(answerTime)
	e.unlist(s)
	e.touch(s)
	e.bury(s)
}

// bury bounds how many IKE SAs are kept for their last answer: whoever is turned away often costs no more than that.
func (e *Endpoint) bury(s *sa) {
	for len(e.over) > 0 && e.over[0].gone {
		e.over = e.over[1:]
	}
	if len(e.over) >= e.cfg.MaxHalfOpen {
		e.remove(e.over[0])
		e.over = e.over[1:]
	}
	e.over = append(e.over, s)
}

// lose tells the task that has the window of s that it will have no answer.
func (e *Endpoint) lose(s *sa) {
	if s.own != nil && s.own.task != nil {
		s.own.task.lost(e, s, nil)
		s.own.task = nil
	}
}

// unlist takes s out of its session unless it is the current one.
func (e *Endpoint) unlist(s *sa) {
	n := s.session
	if i := slices.Index(n.turn().others, s); i >= 0 {
		n.toTurn().others = slices.Delete(n.toTurn().others, i, i+1)
	}
	if n.turn().rival == s {
		n.toTurn().rival = nil
	}
}

// reject answers a request with an error that ends the IKE SA on both sides.
func (e *Endpoint) reject(s *sa, p wire.Payload, err error) {
	e.reply(s, p)
	if s.session.current == s {
		e.report(s.session, err, false)
		e.removeOthers(s.session)
	}
	e.retire(s)
}

// drop forgets s without a word.
func (e *Endpoint) drop(s *sa, err error) {
	if s.session.current == s {
		e.report(s.session, err, false)
		e.removeOthers(s.session)
	}
	e.unlist(s)
	e.remove(s)
}

func (e *Endpoint) removeOthers(n *session) {
	for _, o := range slices.Clone(n.turn().others) {
		e.unlist(o)
		e.remove(o)
	}
}

// fail ends an IKE SA because of what the peer did. An authenticated peer is told by a delete.
func (e *Endpoint) fail(s *sa, t wire.NotifyType, what string) {
	err := &ProtocolError{Notify: uint16(t), What: what}
	if s.state.phase() == established {
		e.goodbye(s, err)
		return
	}
	e.drop(s, err)
}

// goodbye reports the end of a session at once and deletes its IKE SA in the background.
func (e *Endpoint) goodbye(s *sa, err error, ps ...wire.Payload) {
	if s.session.current != s {
		e.unlist(s)
		e.remove(s)
		return
	}
	e.report(s.session, err, false)
	e.removeOthers(s.session)
	e.leave(s, false, ps...)
}

// leaving is an IKE SA that was replaced, or is being deleted (RFC 7296 §1.4.1, §2.8, §2.25).
type leavingSA struct {
	quiet
	whole    bool           // the session ends with it, and has not been reported
	farewell []wire.Payload // what to say as soon as the window is free; nil: the peer has to say it
	said     bool
}

func (*leavingSA) phase() phase { return leaving }

// leave begins to delete s. The delete is the last request on it.
func (e *Endpoint) leave(s *sa, whole bool, ps ...wire.Payload) {
	st := &leavingSA{whole: whole, farewell: append(ps, payload(wire.PayloadDelete, wire.Delete{Protocol: wire.ProtoIKE}))}
	e.enterLeaving(s, st)
	e.farewell(s, st)
}

// replaced waits for the peer, who made the successor of s, to delete it.
func (e *Endpoint) replaced(s *sa) {
	e.enterLeaving(s, &leavingSA{})
	s.until = e.now.add(replacedTime)
}

func (e *Endpoint) enterLeaving(s *sa, st *leavingSA) {
	s.state = st
	s.soft, s.hard, s.until = never, never, never
	if s.own != nil && !s.own.sent() { // it was only being prepared
		if t := s.own.task; t != nil && !s.session.closing {
			s.session.queue = append([]task{t}, s.session.queue...)
		}
		s.own = nil
	}
	if s.asking != nil && s.asking.work != nil {
		e.reply(s, notify(wire.TemporaryFailure))
	}
	e.touch(s)
}

func (e *Endpoint) farewell(s *sa, st *leavingSA) {
	if s.own == nil && st.farewell != nil && !st.said {
		st.said = true
		e.send(s, nil, wire.Informational, e.cfg.Quick, st.farewell...)
	}
}

func (st *leavingSA) request(e *Endpoint, s *sa, m *message) {
	if m.Exchange != wire.Informational {
		e.count(Collision)
		e.reply(s, notify(wire.TemporaryFailure))
		return
	}
	e.informational(s, m)
}

// response is that to our farewell, or to what was under way before it.
func (st *leavingSA) response(e *Endpoint, s *sa, _ *message) {
	if st.said {
		e.gone(s, st.whole, nil, false)
		return
	}
	e.farewell(s, st)
}

// gone finishes s when both sides know that it is deleted.
func (e *Endpoint) gone(s *sa, whole bool, err error, byPeer bool) {
	if whole {
		e.report(s.session, err, byPeer)
		e.removeOthers(s.session)
	}
	e.retire(s)
}

// noAnswer ends what waited for an answer in vain (RFC 7296 §2.4).
func (e *Endpoint) noAnswer(s *sa) {
	err := &NoAnswerError{Remote: s.remote, Sent: s.own.sends, Began: s.state.phase() != initSending}
	st, ok := s.state.(*leavingSA)
	switch {
	case ok && st.whole:
		e.report(s.session, nil, false)
		e.drop(s, nil)
	case ok || s.session.current != s:
		e.unlist(s)
		e.remove(s)
	default:
		e.count(NoAnswer)
		e.drop(s, s.refusedOr(err))
	}
}

// refusedOr is the unprotected error answer that an attempt got, if it got nothing better.
func (s *sa) refusedOr(err error) error {
	if st, ok := s.state.(*initSent); ok && st.refused != 0 {
		return &RefusedError{Notify: uint16(st.refused)}
	}
	return err
}

// expired ends a state that does not last.
func (e *Endpoint) expired(s *sa) {
	switch s.state.phase() {
	case rejected, leaving:
		e.unlist(s)
		e.remove(s)
	case established: // RFC 7296 §2.1: the last answer may be forgotten after several minutes
		s.answer = nil
	case initSending:
		e.count(NoAnswer)
		e.drop(s, s.refusedOr(&NoAnswerError{Remote: s.remote}))
	default:
		e.count(Expired)
		e.drop(s, &ProtocolError{What: "the handshake was not completed in time"})
	}
}

// deleteSA is the wish to end a session.
func (e *Endpoint) deleteSA(ev DeleteSA) {
	n := e.sessions[ev.SA]
	if n == nil {
		return
	}
	s := n.current
	e.touch(s)
	switch p := s.state.phase(); {
	case p == leaving && !ev.Silent:
		return
	case p == peerChecking && !ev.Silent: // the peer thinks that it is up
		e.goodbye(s, nil)
		return
	case p != established || ev.Silent:
		e.drop(s, nil)
		return
	}
	n.closing = true
	if s.own != nil && s.own.task != nil {
		s.own.task.lost(e, s, nil)
		if s.own.sent() {
			s.own.task = nil
		}
	}
	for _, t := range n.queue {
		t.lost(e, s, nil)
	}
	for _, d := range n.turn().later {
		d.task.lost(e, s, nil)
	}
	n.queue, n.toTurn().later = nil, nil
	e.removeOthers(n)
	var ps []wire.Payload
	if ev.Leaving && n.btns {
		ps = append(ps, notify(notifyLeaving))
	}
	if n.talks() && Revocation.fits(ev.Revocation) {
		ps = append(ps, Revocation.payload(ev.Revocation))
	}
	e.leave(s, true, ps...)
}
