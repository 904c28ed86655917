package ikev2

import (
	"slices"

	"github.com/btns-ipsec/btns/ikev2/wire"
)

// Private notifies between btns hosts in an established IKE SA whose peer has signed. Each is alone what it is: the rest of a
// message that holds one means what it always does. A peer that is not btns ignores them (RFC 7296 §3.10.1).
const (
	// notifySuccessors lists the keys that may come in the place of the sender's (BTNS-TRUST-40).
	notifySuccessors wire.NotifyType = 40973
	// notifyRevocation is a statement by which a key ends itself (BTNS-TRUST-44).
	notifyRevocation wire.NotifyType = 40974
	// notifyInstance, in IKE_AUTH, tells apart machines that have the same key.
	notifyInstance wire.NotifyType = 40975
	// notifyShortString is a step of the comparison of a short string (BTNS-TRUST-53).
	notifyShortString wire.NotifyType = 40976
)

// Statement is a kind of what two btns hosts tell each other inside an IKE SA. What it means is not this package's: it carries
// octets, within bounds.
type Statement uint8

const (
	Successors  Statement = iota + 1 // keys that may come in the place of the sender's
	Revocation                       // the end of a key, signed by itself
	ShortString                      // a step of a comparison
	statements
)

// carrier is how a kind of statement travels, and how many octets it may have.
type carrier struct {
	notify wire.NotifyType
	max    int
}

var carriers = [statements]carrier{
	Successors:  {notifySuccessors, 16 << 10}, // four keys of RSA 8192, each with a proof, take less
	Revocation:  {notifyRevocation, 4 << 10},
	ShortString: {notifyShortString, 64},
}

func (k Statement) fits(data []byte) bool {
	return k > 0 && k < statements && len(data) > 0 && len(data) <= carriers[k].max
}

func (k Statement) payload(data []byte) wire.Payload { return notify(carriers[k].notify, data...) }

// talks reports whether statements pass between the two ends of a session: both are btns, and the peer has a key. Without
// one there would be nobody who states something.
func (n *session) talks() bool { return n.btns && n.up && n.peer.Method == Signature }

// tell is a statement on its way to the peer.
type tell struct {
	simple
	kind Statement
	data []byte
}

// state queues a statement; a newer one of its kind takes the place of one that has not left yet.
func (e *Endpoint) state(ev Tell) {
	n := e.sessions[ev.SA]
	if n == nil || n.closing || !n.talks() || !ev.Kind.fits(ev.Data) {
		return
	}
	for _, q := range n.queue {
		if t, ok := q.(*tell); ok && t.kind == ev.Kind {
			t.data = slices.Clone(ev.Data)
			return
		}
	}
	e.want(n, &tell{kind: ev.Kind, data: slices.Clone(ev.Data)})
}

func (t *tell) start(e *Endpoint, s *sa) bool {
	e.send(s, t, wire.Informational, e.usual(s), t.kind.payload(t.data))
	return true
}

func (t *tell) answered(e *Endpoint, s *sa, m *message) {
	if errorOf(&m.Message) == 0 {
		e.do(Told{SA: s.session.handle, Kind: t.kind})
	}
}

// heard takes the statements out of an INFORMATIONAL request, at most one of each kind.
type heard struct{ kinds [statements]bool }

// take hands b on if it is a statement. What is malformed is told, and changes nothing: as status notifies have it.
func (h *heard) take(e *Endpoint, s *sa, b wire.Notify) {
	n := s.session
	i := slices.IndexFunc(carriers[1:], func(c carrier) bool { return c.notify == b.Type })
	if i < 0 || !n.talks() || e.sessions[n.handle] != n {
		return
	}
	k := Statement(i + 1)
	if h.kinds[k] || len(b.SPI) > 0 || !k.fits(b.Data) {
		e.notice(s, BadStatement, "a private notify of btns that is malformed, or there twice")
		return
	}
	h.kinds[k] = true
	e.do(Stated{SA: n.handle, Kind: k, Data: b.Data})
}

// Instance is a random number that a machine chooses when it starts, so that a copy of it is told from itself.
type Instance [16]byte

const instanceVersion = 1

// instancePayload says which machine this is, to a btns peer in front of which we sign: with a key we can be recognized
// anyhow.
func (e *Endpoint) instancePayload(n *session, method Method) []wire.Payload {
	if !n.btns || method != Signature || e.cfg.Instance == (Instance{}) {
		return nil
	}
	return []wire.Payload{notify(notifyInstance, append([]byte{instanceVersion}, e.cfg.Instance[:]...)...)}
}

// instanceOf is what the peer says about itself in IKE_AUTH; zero when it says nothing, or nothing that can be read.
func (e *Endpoint) instanceOf(s *sa, m *wire.Message) (i Instance) {
	if n := s.session; !n.btns || n.peer.Method != Signature {
		return i
	}
	b, ok := m.Notify(notifyInstance)
	if !ok {
		return i
	}
	if len(b.SPI) > 0 || len(b.Data) != 1+len(i) || b.Data[0] != instanceVersion {
		e.notice(s, BadStatement, "the number of an instance that cannot be read")
		return i
	}
	return Instance(b.Data[1:])
}
