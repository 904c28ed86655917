package ikev2

import (
	"time"

	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
)

// addChild records a child that lives for l.
func (e *Endpoint) addChild(n *session, c *child, l protect.Lifetime) {
	if len(n.children) == 0 {
		n.children = n.sole[:0]
	}
	n.children = append(n.children, c)
	e.children[c.id] = n
	c.soft, c.hard = e.clocks(l)
	e.touch(n.current)
}

// clocks turns a lifetime into instants. The soft one varies, so that two ends seldom rekey at once.
func (e *Endpoint) clocks(l protect.Lifetime) (soft, hard instant) {
	soft, hard = never, never
	if l.Hard.Time > 0 {
		hard = e.now.add(l.Hard.Time)
	}
	if l.Soft.Time > 0 {
		soft = e.now.add(max(l.Soft.Time-time.Duration(e.dice.Float64()*float64(l.Jitter)), time.Second))
	}
	return soft, hard
}

// age sets the clocks of an IKE SA.
func (e *Endpoint) age(s *sa) {
	l := e.cfg.Lifetime
	if o := s.session.override; o != nil && o.Lifetime != (protect.Lifetime{}) {
		l = o.Lifetime
	}
	s.made = e.now
	s.soft, s.hard = e.clocks(l)
	if v := s.session.peer.Proven; v != nil { // RFC 4301 §4.4.2.1: not beyond the certificates that were used
		s.hard = min(s.hard, e.now.add(endOf(v).Sub(e.clock)))
	}
}

// endOf is when what certificates have proven is no longer so: their last second counts (RFC 5280 §4.1.2.5).
func endOf(v *chain.Verified) time.Time { return v.Until.Add(time.Second) }

// childUp reports a new child with what every one has in common.
func (e *Endpoint) childUp(s *sa, c *child, up ChildUp, v views) {
	up.Local, up.Remote, up.SawLocal, up.SawRemote = c.local, c.remote, v.sawLocal, v.sawRemote
	up.OuterLocal, up.OuterRemote, up.NAT = s.local, s.remote, s.session.nat
	e.do(up)
}

// childDown takes a child out of use.
func (e *Endpoint) childDown(n *session, c *child, linger bool, err error) {
	n.drop(c)
	delete(e.children, c.id)
	e.do(ChildDown{SA: n.handle, Child: c.id, Linger: linger, Err: err})
}

// use switches outbound traffic to c, once.
func (e *Endpoint) use(n *session, c *child) {
	if c != nil && !c.sending && n.childByID(c.id) == c {
		c.sending = true
		e.do(ChildUse{Child: c.id})
	}
}

// carried says that the peer uses c: it has the child, so we may use it too (RFC 7296 §2.8).
func (e *Endpoint) carried(id ChildID) {
	if n := e.children[id]; n != nil {
		e.use(n, n.childByID(id))
	}
}

// ringChildren rekeys and ends children by time.
func (e *Endpoint) ringChildren(n *session) {
	for i := 0; i < len(n.children); i++ {
		c := n.children[i]
		switch {
		case c.hard <= e.now:
			e.count(LifetimeEnded)
			e.childDown(n, c, false, &ProtocolError{What: "lifetime of the child SA ended"})
			i--
			if !c.deleting {
				e.want(n, &deleteChild{spi: c.spiIn})
			}
		case c.soft <= e.now:
			c.soft = never
			if c.heir == 0 && !c.deleting && !c.rekeying {
				e.want(n, &makeChild{old: c})
			}
		}
	}
}

// deleteChild deletes one child, or gives back an SPI that never became one.
type deleteChild struct {
	simple
	child *child
	spi   uint32
}

// deleteLater queues the delete of c.
func (e *Endpoint) deleteLater(n *session, c *child) {
	if !c.deleting {
		c.deleting = true
		c.soft = never
		n.queue = append(n.queue, &deleteChild{child: c, spi: c.spiIn})
		e.touch(n.current)
	}
}

func (t *deleteChild) start(e *Endpoint, s *sa) bool {
	if t.child != nil && s.session.childByID(t.child.id) != t.child {
		return false
	}
	e.send(s, t, wire.Informational, e.usual(s), payload(wire.PayloadDelete, wire.Delete{Protocol: wire.ProtoESP, SPIs: []uint32{t.spi}}))
	return true
}

func (t *deleteChild) answered(e *Endpoint, s *sa, _ *message) {
	if c := t.child; c != nil && s.session.childByID(c.id) == c {
		e.childDown(s.session, c, true, nil)
	}
}

// liveness asks whether the peer is there (RFC 7296 §2.4).
type liveness struct{ simple }

func (e *Endpoint) checkAlive(n *session, suspect bool) {
	if !n.up || n.closing {
		return
	}
	if suspect && !n.suspect {
		n.suspect = true
		e.hurry(n.current)
	}
	if !n.checking {
		n.checking = true
		e.want(n, &liveness{})
	}
}

// hurry makes the request that waits for an answer serve as the check: every answer says that the peer is there.
func (e *Endpoint) hurry(s *sa) {
	if s.own.sent() && s.state.phase() == established {
		r := s.own
		r.hurried, r.plan, r.wait = true, e.cfg.Suspect, instant(e.cfg.Suspect.First)
		r.plan.Sends += r.sends
		e.again(s)
	}
}

// calm takes hurry back when the peer has been heard meanwhile, so that a slow answer is waited for as usual.
func (e *Endpoint) calm(s *sa) bool {
	r := s.own
	if !r.hurried || s.session.suspect {
		return false
	}
	r.hurried, r.plan = false, e.usual(s)
	r.plan.Sends += r.sends
	return true
}

func (t *liveness) start(e *Endpoint, s *sa) bool {
	plan := e.cfg.Quick
	if s.session.suspect {
		plan = e.cfg.Suspect
	}
	e.send(s, t, wire.Informational, plan)
	if s.own != nil {
		s.own.hurried = s.session.suspect
	}
	return true
}

func (t *liveness) answered(e *Endpoint, s *sa, _ *message) {
	s.session.checking = false
	e.do(Proven{SA: s.session.handle})
}

func (t *liveness) lost(_ *Endpoint, s *sa, _ error) { s.session.checking = false }

// wish takes what the owner wants of an established session.
func (e *Endpoint) wish(ev Event) {
	switch ev := ev.(type) {
	case CreateChild:
		n := e.sessions[ev.SA]
		if n == nil || !n.up || n.closing {
			e.do(ChildFailed{SA: ev.SA, Child: ev.Child.ID, Err: &ProtocolError{What: "there is no such IKE SA"}})
			return
		}
		e.want(n, &makeChild{req: ev.Child})
	case RekeyChild:
		if n, c := e.childOf(ev.Child); c != nil && !c.rekeying && !c.deleting && c.heir == 0 {
			c.rekeying = true
			e.want(n, &makeChild{old: c})
		}
	case DeleteChild:
		if n, c := e.childOf(ev.Child); c != nil {
			e.deleteLater(n, c)
			e.pump(n.current)
		}
	case RekeySA:
		if n := e.sessions[ev.SA]; n != nil && n.up && !n.closing {
			e.want(n, &rekeySA{})
		}
	case DeleteSA:
		e.deleteSA(ev)
	case Tell:
		e.state(ev)
	case CheckAlive:
		if n := e.sessions[ev.SA]; n != nil {
			e.touch(n.current)
			e.checkAlive(n, false)
		}
	case Unanswered:
		if n := e.sessions[ev.SA]; n != nil {
			e.touch(n.current)
			e.checkAlive(n, true)
		}
	case Alive:
		if n := e.sessions[ev.SA]; n != nil && n.up {
			n.heard, n.suspect = e.now, false
			e.touch(n.current)
		}
	case ChildCarried:
		e.carried(ev.Child)
	case Moved:
		if n := e.sessions[ev.SA]; n != nil && n.up && n.mayMove(ev.Remote) {
			e.move(n, path{n.current.local, ev.Remote})
		}
	}
}

func (e *Endpoint) childOf(id ChildID) (*session, *child) {
	n := e.children[id]
	if n == nil || n.closing {
		return nil, nil
	}
	return n, n.childByID(id)
}
