package ikev2

import (
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// establishedSA is an IKE SA in use. What it holds is in [sa] and [session].
type establishedSA struct{ quiet }

func (establishedSA) phase() phase { return established }

func (establishedSA) computed(e *Endpoint, s *sa, j work) {
	if s.own != nil && s.own.task != nil {
		s.own.task.computed(e, s, j)
	}
	if s.asking != nil && s.asking.work != nil {
		s.asking.work.computed(e, s, j)
	}
}

func (establishedSA) childJudged(e *Endpoint, s *sa, v ChildJudged) {
	if s.own != nil && s.own.task != nil {
		s.own.task.childJudged(e, s, v)
	}
	if s.asking != nil && s.asking.work != nil {
		s.asking.work.childJudged(e, s, v)
	}
}

func (establishedSA) request(e *Endpoint, s *sa, m *message) {
	switch m.Exchange {
	case wire.Informational:
		e.informational(s, m)
	case wire.CreateChildSA:
		e.createChild(s, m)
	default:
		e.followUp(s, m)
	}
}

// informational does what the peer tells, and answers (RFC 7296 §1.4).
func (e *Endpoint) informational(s *sa, m *message) {
	n := s.session
	var spis []uint32
	var over bool
	var fatal wire.NotifyType
	var said heard
	for _, p := range m.Payloads {
		switch b := p.Body.(type) {
		case wire.Notify:
			switch b.Type {
			case notifyLeaving:
				if n.btns {
					e.do(PeerLeaving{SA: n.handle})
				}
			case wire.AuthenticationFailed, wire.InvalidSyntax:
				fatal = b.Type
			default:
				said.take(e, s, b)
			}
		case wire.Delete:
			if b.Protocol == wire.ProtoIKE {
				over = true
				continue
			}
			spis = append(spis, e.deletedByPeer(n, b)...)
		}
	}
	if over || fatal != 0 {
		e.reply(s)
		e.deletedSA(s, fatal)
		return
	}
	if len(spis) > 0 {
		e.reply(s, payload(wire.PayloadDelete, wire.Delete{Protocol: wire.ProtoESP, SPIs: spis}))
		return
	}
	e.reply(s)
}

const maxDead = 16

// deletedByPeer removes the children that a D payload names, and returns our halves of them. Of a child that we are
// deleting ourselves our own delete has spoken (RFC 7296 §1.4.1).
func (e *Endpoint) deletedByPeer(n *session, d wire.Delete) (spis []uint32) {
	if d.Protocol != wire.ProtoESP {
		return nil
	}
	for _, spi := range d.SPIs {
		c := n.childByOut(spi)
		if t, ok := n.current.task().(*makeChild); ok && c == nil && len(t.dead) < maxDead {
			t.dead = append(t.dead, spi) // the delete has overtaken the answer
		}
		if c == nil || c.deleting {
			continue
		}
		spis = append(spis, c.spiIn)
		heir := n.childByID(c.heir)
		if heir == nil && n.current.own != nil {
			if t, ok := n.current.own.task.(*makeChild); ok && t.old == c && t.crossed != nil {
				heir = t.crossed.child
				c.heir = heir.id
			}
		}
		e.use(n, heir)
		e.childDown(n, c, heir != nil, nil)
	}
	return spis
}

// deletedSA is told that the peer deleted s (RFC 7296 §2.25.2): with it the session ends, unless s has been replaced.
func (e *Endpoint) deletedSA(s *sa, fatal wire.NotifyType) {
	n := s.session
	var err error
	if fatal != 0 {
		err = &RefusedError{Notify: uint16(fatal), Authenticated: true}
	}
	if st, ok := s.state.(*leavingSA); ok {
		e.gone(s, st.whole, err, true)
		return
	}
	if n.current == s && n.turn().rival != nil && fatal == 0 { // our own rekey crossed the peer's, which is complete
		heir := n.turn().rival
		e.adopt(n, heir)
		e.retire(s)
		e.pump(heir)
		return
	}
	e.gone(s, n.current == s, err, true)
}

// createChild sorts a CREATE_CHILD_SA request, and refuses for the time being what collides (RFC 7296 §2.25).
func (e *Endpoint) createChild(s *sa, m *message) {
	sa, _ := wire.Find[wire.SA](m.Message, wire.PayloadSA)
	nonce, _ := wire.Find[wire.Nonce](m.Message, wire.PayloadNonce)
	if sa.Proposals[0].Protocol == wire.ProtoIKE {
		e.answerRekey(s, m, sa, nonce.Data)
		return
	}
	n := s.session
	if countOf(m.Payloads, wire.PayloadTSi)*countOf(m.Payloads, wire.PayloadTSr) == 0 {
		e.notice(s, BadSyntax, "a child without selectors")
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "a child without selectors"})
		return
	}
	if _, rekeying := s.task().(*rekeySA); rekeying && s.own.begun || n.closing || n.turn().follow.alive(e.now) {
		e.count(Collision)
		e.reply(s, notify(wire.TemporaryFailure))
		return
	}
	a := &answerChild{ni: nonce.Data}
	if r, ok := m.Notify(wire.RekeySA); ok {
		spi, _ := r.SPI32()
		c := n.childByOut(spi)
		switch {
		case c == nil || c.heir != 0: // gone, or as good as gone
			e.reply(s, notifyChild(wire.ChildSANotFound, spi))
			return
		case c.deleting:
			e.count(Collision)
			e.reply(s, notify(wire.TemporaryFailure))
			return
		}
		a.old = c
	}
	s.asking.work = a
	if !a.ask(e, s, &m.Message) {
		a.finish(e, s)
	}
}

// task is what has the window, or nil.
func (s *sa) task() task {
	if s.own == nil {
		return nil
	}
	return s.own.task
}
