package ikev2

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// datagram sorts what arrives: the cheap checks first, so that most rubbish costs next to nothing.
func (e *Endpoint) datagram(d Datagram) {
	from := d.Remote.Addr()
	if d.Remote.Port() == 0 || !from.IsValid() || from.IsUnspecified() || from.IsMulticast() {
		e.count(BadSource)
		return
	}
	h, err := wire.ParseHeader(d.Data)
	if err != nil {
		e.count(Malformed)
		return
	}
	at := path{d.Local, d.Remote}
	switch {
	case h.Major() > 2:
		e.badVersion(h, at)
		return
	case h.Major() < 2 || uint64(h.Length) != uint64(len(d.Data)) || h.SPIi == 0:
		e.count(Malformed)
		return
	}
	if h.Exchange == wire.IKESAInit && !h.Response() {
		e.initRequest(d, h)
		return
	}
	s := e.find(h)
	switch {
	case s == nil:
		e.unknown(h, at)
	case h.Exchange == wire.IKESAInit:
		e.initResponse(s, d)
	default:
		e.protected(s, h, d)
	}
}

// find maps a message to its IKE SA by the SPI that we gave, and by nothing else (RFC 7296 §2.6): the I flag says which
// of the two it is.
func (e *Endpoint) find(h wire.Header) *sa {
	ours, theirs := h.SPIi, h.SPIr
	if h.Initiator() {
		ours, theirs = theirs, ours
	}
	s := e.bySPI[ours]
	if s == nil || s.initiator == h.Initiator() {
		return nil
	}
	known := s.spir
	if !s.initiator {
		known = s.spii
	}
	if known != theirs && known != 0 { // the responder's is still unknown before its first answer
		return nil
	}
	return s
}

// bare sends an unprotected answer that makes no state (RFC 7296 §1.5, §2.6). It is never longer than what it answers:
// h is what came, and its sender proved nothing.
func (e *Endpoint) bare(h wire.Header, at path, ps ...wire.Payload) {
	answer := wire.Message{Header: h, Payloads: ps}
	answer.Version = wire.Version2
	answer.Flags = wire.FlagResponse
	if !h.Initiator() {
		answer.Flags |= wire.FlagInitiator
	}
	e.do(Send{Local: at.local, Remote: at.remote, Data: answer.Append(nil)})
}

// badVersion answers a higher major version (RFC 7296 §2.5).
func (e *Endpoint) badVersion(h wire.Header, at path) {
	e.count(BadVersion)
	if h.Response() {
		return
	}
	if !e.front.answers.take(e.now, answersRate) {
		e.count(Throttled)
		return
	}
	e.bare(h, at, notify(wire.InvalidMajorVersion))
}

// unknown is told of a message for an IKE SA that does not exist: a request may be answered, a response never
// (RFC 7296 §2.21.4).
func (e *Endpoint) unknown(h wire.Header, at path) {
	e.count(UnknownSA)
	if h.Response() {
		e.hint(h)
		return
	}
	if h.SPIr == 0 || !e.front.answers.take(e.now, answersRate) {
		e.count(Throttled)
		return
	}
	e.bare(h, at, notify(wire.InvalidIKESPI))
}

// hint is a response in clear about an SA of ours, or about none. It changes nothing; at most, and at a limited rate, it
// makes us ask the peer (RFC 7296 §2.21.4, BTNS-CORE-68).
func (e *Endpoint) hint(h wire.Header) {
	s := e.bySPI[h.SPIi]
	if s == nil {
		s = e.bySPI[h.SPIr]
	}
	if s == nil || s.state.phase() != established || s.session.current != s {
		return
	}
	e.count(Hint)
	if e.now < s.session.heard.add(e.cfg.Quick.First) || !e.front.hints.take(e.now, hintsRate) {
		return // a fresh protected message says more
	}
	e.touch(s)
	e.checkAlive(s.session, false)
}

// protected takes a message that has to be authentic before it may change anything (RFC 7296 §2.4).
func (e *Endpoint) protected(s *sa, h wire.Header, d Datagram) {
	at := path{d.Local, d.Remote}
	sk, err := locate(d.Data)
	if err != nil || sk.typ == wire.PayloadSKF && (sk.num == 0 || sk.num > sk.total || sk.total > maxFragments || !s.fragments) {
		if err != nil && h.Response() {
			e.hint(h)
		}
		e.count(Malformed)
		return
	}
	m := &message{Message: wire.Message{Header: h}, path: at, first: sk.first, flags: sk.flags}
	m.ike = d.Data[:headerLen]
	if h.Response() {
		if !s.own.sent() || s.own.id != h.MessageID || s.own.exchange != h.Exchange {
			e.count(StaleID)
			return
		}
	} else if !e.expected(s, m, sk, d) {
		return
	}
	if s.in == nil {
		e.count(Unexpected)
		return
	}
	plain, _, err := s.in.Open(nil, d.Data[:sk.head], d.Data[sk.head:])
	switch {
	case errors.Is(err, suite.ErrPadding): // authentic, and broken
		e.broken(s, m, "padding")
		return
	case err != nil:
		e.count(BadICV)
		s.rest()
		return
	}
	e.touch(s)
	m.plain = plain
	if sk.typ == wire.PayloadSKF {
		if m = e.collect(s, m, sk, plain); m == nil {
			return
		}
	}
	if s.parts != nil {
		s.parts[b2i(h.Response())] = nil
	}
	e.authentic(s, m)
}

// expected checks the message ID of a request. The last one again is answered again, in the octets of the first time;
// if it came in fragments, once (RFC 7296 §2.2, RFC 7383 §2.6.1).
func (e *Endpoint) expected(s *sa, m *message, sk sealed, d Datagram) bool {
	if sk.typ == wire.PayloadSK || sk.num == 1 {
		m.hash = hashOf(d.Data)
	}
	if m.MessageID == s.nextPeer && s.asking == nil {
		return true
	}
	if m.MessageID+1 != s.nextPeer || !s.answer.to(m.hash) {
		e.count(StaleID)
		return false
	}
	e.count(Replayed)
	for _, b := range s.answer.octets() {
		e.do(Send{Local: m.local, Remote: m.remote, Data: append([]byte(nil), b...)})
	}
	return false
}

// authentic takes a message that is what the peer sent, whole and in turn.
func (e *Endpoint) authentic(s *sa, m *message) {
	if !m.Response() && !s.session.known && !s.session.may(e.now, m.Exchange) { // as if it had not come: it comes again
		e.count(Throttled)
		return
	}
	s.session.heard, s.session.suspect = e.now, false
	e.follow(s, m)
	var critical *wire.UnsupportedCriticalError
	var err error
	m.Payloads, err = wire.ParsePayloads(m.first, m.plain)
	if !m.Response() {
		s.nextPeer++
		s.answer = &answer{hash: m.hash}
		s.asking = &asked{id: m.MessageID, exchange: m.Exchange, path: m.path}
	}
	switch {
	case errors.As(err, &critical):
		e.criticalPayload(s, m, critical.Type)
		return
	case err != nil:
		e.broken(s, m, err.Error())
		return
	}
	switch check(s.state.phase(), &m.Message) {
	case misplaced:
		e.misplaced(s, m)
		return
	case broken:
		e.broken(s, m, fmt.Sprintf("%v lacks a payload or has one twice", m.Exchange))
		return
	}
	if m.Response() {
		own := s.own
		s.nextOwn = own.id + 1
		s.own = nil
		if own.task != nil {
			own.task.answered(e, s, m)
		} else {
			s.state.response(e, s, m)
		}
		e.pump(s)
		return
	}
	s.state.request(e, s, m)
	e.pump(s)
}

// follow moves to the address that a fresh authentic request came from, when the peer is the one behind a NAT, and in the
// initial exchanges to the port that their initiator goes to (RFC 7296 §2.23): the address for which it will be judged is the
// one that IKE_SA_INIT was answered to, since whoever is authenticated has got that answer. What we ourselves sent to an old
// address is retransmitted to the new one.
func (e *Endpoint) follow(s *sa, m *message) {
	if m.Response() || m.path == s.path {
		return
	}
	switch s.state.phase() {
	case halfOpen:
		if !s.initiator {
			s.path = path{m.local, netip.AddrPortFrom(s.remote.Addr(), m.remote.Port())}
		}
	case established:
		if n := s.session; n.current == s && n.mayMove(m.remote) {
			e.move(n, m.path)
		}
	}
}

func (e *Endpoint) move(n *session, to path) {
	if n.from == nil {
		from := n.current.path
		n.from = &from
	}
	for _, s := range e.sasOf(n) {
		s.path = to
		e.touch(s)
	}
	e.do(SAMoved{SA: n.handle, Remote: to.remote})
}

// criticalPayload refuses a whole request because of one payload, and looks at nothing else in it (RFC 7296 §2.5). A
// response with one ends the IKE SA: nobody may send that.
func (e *Endpoint) criticalPayload(s *sa, m *message, t wire.PayloadType) {
	e.notice(s, CriticalPayload, fmt.Sprintf("unknown critical payload %d", uint8(t)))
	if m.Response() {
		e.fail(s, 0, "a response has an unknown critical payload")
		return
	}
	switch s.state.phase() {
	case established, leaving:
		e.reply(s, notify(wire.UnsupportedCriticalPayload, byte(t)))
	default:
		e.reject(s, notify(wire.UnsupportedCriticalPayload, byte(t)), &ProtocolError{Notify: 1, What: "unknown critical payload"})
	}
}

// broken ends an IKE SA whose peer, authentic as it is, breaks the format: a request gets INVALID_SYNTAX, and both sides
// drop the SA without a delete; a response gets no error back (RFC 7296 §2.21.2, §2.21.3).
func (e *Endpoint) broken(s *sa, m *message, what string) {
	e.notice(s, BadSyntax, "malformed message of the peer: "+what)
	if m.Response() {
		e.fail(s, 0, "malformed response: "+what)
		return
	}
	if s.asking == nil { // padding: the ID has not been used yet
		s.nextPeer++
		s.answer = &answer{hash: m.hash}
		s.asking = &asked{id: m.MessageID, exchange: m.Exchange, path: m.path}
	}
	e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: "malformed request: " + what})
}

// misplaced is told of an exchange that does not fit the state. In an established IKE SA every request with the expected
// ID has to be answered (RFC 7296 §2.21.3); before, it is as if it had not come.
func (e *Endpoint) misplaced(s *sa, m *message) {
	e.notice(s, Unexpected, fmt.Sprintf("%v does not fit the state", m.Exchange))
	switch {
	case m.Response():
		e.fail(s, 0, "a response does not fit the state")
	case s.state.phase() == established:
		e.reject(s, notify(wire.InvalidSyntax), &ProtocolError{Notify: uint16(wire.InvalidSyntax), What: fmt.Sprintf("unexpected %v", m.Exchange)})
	default: // an exchange out of turn: wait for the right one under the same ID
		s.asking = nil
		s.nextPeer--
		s.answer = nil
	}
}
