package ikev2

import (
	"time"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

// keepAnswer is how long an established SA can answer a repeated request: longer than anybody repeats one.
const keepAnswer = 3 * time.Minute

// reply answers the request that is being worked on. The octets are kept until the next request comes (RFC 7296 §2.1).
func (e *Endpoint) reply(s *sa, ps ...wire.Payload) {
	a := s.asking
	if a == nil {
		return
	}
	s.asking = nil
	data, err := e.seal(s, s.header(a.exchange, a.id, true), a.path, ps)
	if err != nil {
		e.notice(s, Internal, err.Error())
		return
	}
	if s.answer == nil {
		s.answer = new(answer)
	}
	s.answer.data = data
	if s.state.phase() == established {
		s.until = e.now.add(keepAnswer)
	}
	s.session.spoke = e.now
	for _, b := range data {
		e.do(Send{Local: a.local, Remote: a.remote, Data: append([]byte(nil), b...)})
	}
}

// send protects a request of our own and takes the window with it. t is nil in the initial exchanges.
func (e *Endpoint) send(s *sa, t task, x wire.ExchangeType, plan Schedule, ps ...wire.Payload) {
	data, err := e.seal(s, s.header(x, s.nextOwn, false), s.path, ps)
	if err != nil {
		e.fail(s, 0, err.Error())
		return
	}
	e.transmit(s, &request{task: t, id: s.nextOwn, exchange: x, data: data, plan: plan})
}

// transmit sends a request for the first time.
func (e *Endpoint) transmit(s *sa, r *request) {
	s.own = r
	r.begun = true
	r.wait = instant(r.plan.First)
	r.at = e.now
	e.again(s)
}

// again sends the request in the window, in the same octets (RFC 7296 §2.1), and sets the next time.
func (e *Endpoint) again(s *sa) {
	r := s.own
	r.sends++
	for _, b := range r.data {
		e.do(Send{Local: s.local, Remote: s.remote, Data: append([]byte(nil), b...)})
	}
	s.session.spoke = e.now
	r.at = e.now.add(e.vary(time.Duration(r.wait)))
	r.wait = min(instant(float64(r.wait)*r.plan.Factor), instant(r.plan.Cap))
	e.touch(s)
}

// usual is the schedule for s.
func (e *Endpoint) usual(s *sa) Schedule {
	if o := s.session.override; o != nil && o.Usual.Sends > 0 && o.Usual.First > 0 {
		p := o.Usual
		p.Factor, p.Cap = max(p.Factor, 1), max(p.Cap, p.First)
		return p
	}
	return e.cfg.Usual
}

// want queues a task of a session and starts it when the window is free.
func (e *Endpoint) want(n *session, t task) {
	n.queue = append(n.queue, t)
	e.touch(n.current)
	e.pump(n.current)
}

// pump starts the next task of s if its window is free, and no rekey by the peer is under way (RFC 7296 §2.25.2).
func (e *Endpoint) pump(s *sa) {
	n := s.session
	if n.turn().follow.alive(e.now) {
		return
	}
	if s.asking != nil {
		if _, ok := s.asking.work.(*answerRekey); ok {
			return
		}
	}
	for !s.gone && s.own == nil && n.current == s && len(n.queue) > 0 && s.state.phase() == established {
		if s.nextOwn == ^uint32(0) {
			e.fail(s, 0, "message IDs are used up") // RFC 7296 §2.2
			return
		}
		t := n.queue[0]
		if n.queue = n.queue[1:]; len(n.queue) == 0 {
			n.queue = nil
		}
		s.own = &request{task: t}
		if !t.start(e, s) && s.own != nil && s.own.task == t {
			s.own = nil
		}
	}
}

// release gives the window back: the task that had it sends nothing more.
func (e *Endpoint) release(s *sa) {
	s.own = nil
	e.pump(s)
}

// dueOf is when s wants to be looked at next.
func (e *Endpoint) dueOf(s *sa) instant {
	due := min(s.soft, s.hard, s.until)
	if s.own.sent() {
		due = min(due, s.own.at)
	}
	if s.parts != nil {
		for _, p := range s.parts {
			if p != nil {
				due = min(due, p.until)
			}
		}
	}
	n := s.session
	if n.current != s || !n.up || n.closing {
		return due
	}
	due = min(due, n.turning.due())
	for _, c := range n.children {
		due = min(due, c.soft, c.hard)
	}
	if l := e.liveness(n); l > 0 && !n.checking {
		due = min(due, n.heard.add(l))
	}
	if n.nat.Us {
		due = min(due, n.spoke.add(e.cfg.Keepalive))
	}
	return due
}

func (e *Endpoint) liveness(n *session) time.Duration {
	if n.override != nil && n.override.Liveness > 0 {
		return n.override.Liveness
	}
	return e.cfg.Liveness
}

// tick looks at every SA that is due.
func (e *Endpoint) tick() {
	e.front.forget(e.now)
	for {
		s, ok := e.wheel.first()
		if !ok || s.due > e.now {
			return
		}
		e.touch(s)
		e.wheel.set(s, never) // its new place is found after the step
		e.ring(s)
	}
}

// ring does what is due for s.
func (e *Endpoint) ring(s *sa) {
	if s.parts != nil {
		for i, p := range s.parts {
			if p != nil && p.until <= e.now { // RFC 7383 §2.6: no failure of the SA
				s.parts[i] = nil
			}
		}
		if *s.parts == (pieces{}) {
			s.parts = nil
		}
	}
	switch {
	case s.hard <= e.now && s.session.peer.Proven != nil && !e.clock.Before(endOf(s.session.peer.Proven)) && s.state.phase() == established:
		s.hard = never
		e.notice(s, LifetimeEnded, "the certificates of the peer have ended")
		e.goodbye(s, ErrCertificatesEnded)
		return
	case s.hard <= e.now:
		s.hard = never
		e.notice(s, LifetimeEnded, "the IKE SA has reached the end of its lifetime")
		e.fail(s, 0, "lifetime of the IKE SA ended")
		return
	case s.until <= e.now:
		s.until = never
		e.expired(s)
		return
	}
	if s.own.sent() && s.own.at <= e.now {
		if s.own.sends >= s.own.plan.Sends && !e.calm(s) {
			e.noAnswer(s)
			return
		}
		e.again(s)
	}
	if n := s.session; n.current == s && n.up && !n.closing {
		e.ringSession(n, s)
	}
}

func (e *Endpoint) ringSession(n *session, s *sa) {
	if s.soft <= e.now {
		s.soft = never
		e.want(n, &rekeySA{})
	}
	e.ringTurning(n, s)
	e.ringChildren(n)
	if l := e.liveness(n); l > 0 && n.heard.add(l) <= e.now {
		e.checkAlive(n, false)
	}
	if n.nat.Us && n.spoke.add(e.cfg.Keepalive) <= e.now {
		n.spoke = e.now
		e.do(Keepalive{Local: s.local, Remote: s.remote})
	}
}

// due is when something of t has to be looked at.
func (t *turning) due() instant {
	due := never
	if t == nil {
		return due
	}
	for _, d := range t.later {
		due = min(due, d.at)
	}
	if t.follow != nil {
		due = min(due, t.follow.until)
	}
	if t.followChild != nil {
		due = min(due, t.followChild.until)
	}
	return due
}

func (e *Endpoint) ringTurning(n *session, s *sa) {
	t := n.turning
	if t == nil {
		return
	}
	if t.follow != nil && !t.follow.alive(e.now) { // the peer has given up its rekey
		t.follow = nil
		e.pump(s)
	}
	if t.followChild != nil && !t.followChild.alive(e.now) {
		e.dropFollowed(n)
	}
	for i := 0; i < len(t.later); i++ {
		if d := t.later[i]; d.at <= e.now {
			t.later = append(t.later[:i:i], t.later[i+1:]...)
			i--
			e.want(n, d.task)
		}
	}
}
