package ikev2

import (
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/ikev2/wire"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// path is where a message came to and from, or goes from and to.
type path struct{ local, remote netip.AddrPort }

// sa is one IKE SA: its SPIs, keys, message IDs and window. What survives a rekey is in its session.
type sa struct {
	session *session
	state   state
	spii    uint64
	spir    uint64
	path
	suite *suite.IKE
	skd   []byte
	sk    suite.Protection
	in    *suite.SK // of sk; nil while there are no keys
	out   *suite.SK

	nextOwn  uint32 // message ID of the next request to send
	nextPeer uint32 // message ID of the next request to expect
	own      *request
	asking   *asked        // request of the peer that is being worked on
	answer   *answer       // to the request before nextPeer; nil once it is forgotten
	parts    *pieces       // nil: none
	counted  *netip.Prefix // under which it is counted as half-open

	made   instant
	soft   instant // when to rekey
	hard   instant
	until  instant // of a state that does not last
	due    instant
	serial uint64
	slot   int32 // in the wheel, -1 outside

	initiator bool // the original initiator of this SA: the I flag of what it sends
	fragments bool // both sides announced RFC 7383
	dirty     bool
	gone      bool
}

// answer is what a repeated request gets.
type answer struct {
	hash [8]byte  // of the request (of its first fragment); zero: none is recognized
	data [][]byte // nil while it is being made
}

// octets are the datagrams of the answer, if there is one.
func (a *answer) octets() [][]byte {
	if a == nil {
		return nil
	}
	return a.data
}

// to reports whether a is, or will be, the answer to a request with that hash.
func (a *answer) to(hash [8]byte) bool { return a != nil && hash == a.hash && hash != [8]byte{} }

// pieces are fragments: of a request, of a response.
type pieces [2]*collected

// rest drops what an established SA seldom needs and can make again: between its messages there may be hours.
func (s *sa) rest() {
	if s.state.phase() == established && s.own == nil && s.asking == nil && s.in != nil {
		s.in.Rest()
		s.out.Rest()
	}
}

// request is the own request in the window of one (RFC 7296 §2.3).
type request struct {
	task     task // nil in the initial exchanges, where the state takes the response
	id       uint32
	exchange wire.ExchangeType
	data     [][]byte // nil while it is being prepared, and again while its answer is worked on
	begun    bool     // the peer has had a request of the task
	plan     Schedule
	sends    int
	wait     instant // the interval that runs
	at       instant // when to send again
	hurried  bool    // plan is that of a suspicion
}

func (r *request) sent() bool { return r != nil && r.data != nil }

// asked is a fresh request of the peer.
type asked struct {
	id       uint32
	exchange wire.ExchangeType
	path
	work answering // nil unless the answer takes more than one step
}

// session is what a [Handle] names: an authenticated relation that goes on when its IKE SA is rekeyed.
type session struct {
	handle  Handle
	current *sa
	turning *turning // nil when there is nothing in it; see turn
	peer    Peer
	from    *path // at which the peer was authenticated; nil: it has not moved since
	nat     NAT
	btns    bool
	up      bool
	shown   bool // the handle has left in a question: its end is reported
	closing bool // DeleteSA was asked for, or the end was reported

	children []*child
	sole     [1]*child // where children lie as long as it is one
	queue    []task
	override *Override
	heard    instant // last proof of life
	spoke    instant // last IKE message sent, for NAT keepalives
	checking bool    // a liveness check is queued or out
	suspect  bool    // packets went out, and nothing came in since
	known    bool    // the judge of peers said so: no budget
	spent    instant // until then its requests have used up what they may
	rekeys   uint32
}

// met is where the peer was authenticated: what it is granted is judged by that, never by where it has moved.
func (n *session) met() path {
	if n.from != nil {
		return *n.from
	}
	return n.current.path
}

// mayMove reports whether to follow the peer: it is the one behind a NAT, and goes on with the same IP version (RFC 7296
// §2.23).
func (n *session) mayMove(to netip.AddrPort) bool {
	at := n.current.remote
	return n.nat.Peer && !n.nat.Us && to != at && to.Addr().Is4() == at.Addr().Is4()
}

// turning is what a session has around a rekey.
type turning struct {
	others []*sa     // replaced, redundant, or not yet current
	rival  *sa       // one of them: made by a rekey of the peer that crossed ours, until it is clear which one stays
	follow *followed // a rekey by the peer that needs more key exchanges
	// followChild is likewise a child.
	followChild *followedChild
	later       []delayed
	failing     instant // since when the peer answers TEMPORARY_FAILURE; 0: it does not
	tries       int     // such answers in a row to IKE rekeys
}

// turn is what there is, to be read.
func (n *session) turn() turning {
	if n.turning == nil {
		return turning{}
	}
	return *n.turning
}

// toTurn is the same, to be changed.
func (n *session) toTurn() *turning {
	if n.turning == nil {
		n.turning = new(turning)
	}
	return n.turning
}

// rest drops what is over.
func (n *session) rest() {
	if t := n.turn(); len(t.others)+len(t.later) == 0 && t.rival == nil && t.follow == nil && t.followChild == nil && t.failing == 0 && t.tries == 0 {
		n.turning = nil
	}
}

type delayed struct {
	at   instant
	task task
}

// child is a child SA pair.
type child struct {
	id       ChildID
	spiIn    uint32
	spiOut   uint32
	mode     protect.Mode
	sending  bool
	deleting bool    // our delete is queued or out
	rekeying bool    // our rekey is queued or out
	heir     ChildID // took its place
	local    selector.Set
	remote   selector.Set
	host     [1]selector.Selector // remote, if it is one
	soft     instant
	hard     instant
}

// carry has c carry what lies between local and remote.
func (c *child) carry(local, remote selector.Set) {
	c.local, c.remote = local, remote
	if len(remote) == 1 {
		c.host = [1]selector.Selector(remote)
		c.remote = c.host[:]
	}
}

func (n *session) childByID(id ChildID) *child {
	for _, c := range n.children {
		if c.id == id {
			return c
		}
	}
	return nil
}

// childByOut finds the child into which we send under an SPI: the one by which the peer names it (RFC 7296 §3.11).
func (n *session) childByOut(spi uint32) *child {
	for _, c := range n.children {
		if c.spiOut == spi {
			return c
		}
	}
	return nil
}

func (n *session) drop(c *child) {
	if i := slices.Index(n.children, c); i >= 0 {
		n.children = slices.Delete(n.children, i, i+1)
	}
}

// state is what an IKE SA is in. What a state does not mention changes nothing: see [quiet].
type state interface {
	phase() phase
	request(e *Endpoint, s *sa, m *message)
	response(e *Endpoint, s *sa, m *message)
	computed(e *Endpoint, s *sa, j work)
	credential(e *Endpoint, s *sa, c Credential)
	peerJudged(e *Endpoint, s *sa, v PeerJudged)
	childJudged(e *Endpoint, s *sa, v ChildJudged)
}

// quiet ignores everything.
type quiet struct{}

func (quiet) request(*Endpoint, *sa, *message)        {}
func (quiet) response(*Endpoint, *sa, *message)       {}
func (quiet) computed(*Endpoint, *sa, work)           {}
func (quiet) credential(*Endpoint, *sa, Credential)   {}
func (quiet) peerJudged(*Endpoint, *sa, PeerJudged)   {}
func (quiet) childJudged(*Endpoint, *sa, ChildJudged) {}

// task is something that this side wants of an established IKE SA. It has the window from start until it is answered or
// given up.
type task interface {
	// start sends the request, or asks for what it needs first. It reports false when there is nothing to do any more.
	start(e *Endpoint, s *sa) bool
	answered(e *Endpoint, s *sa, m *message)
	computed(e *Endpoint, s *sa, j work)
	childJudged(e *Endpoint, s *sa, v ChildJudged)
	// lost says that the IKE SA ended first.
	lost(e *Endpoint, s *sa, err error)
}

type simple struct{}

func (simple) computed(*Endpoint, *sa, work)           {}
func (simple) childJudged(*Endpoint, *sa, ChildJudged) {}
func (simple) lost(*Endpoint, *sa, error)              {}

// answering is a request of the peer that takes more than one step.
type answering interface {
	computed(e *Endpoint, s *sa, j work)
	childJudged(e *Endpoint, s *sa, v ChildJudged)
}

// keysOf are the keys that a signature of the peer may be by, given the key that it sent, if any.
func keysOf(r Remote, sent identity.PublicKey) []identity.PublicKey {
	switch {
	case !sent.IsZero() && (r.AnyKey || slices.Contains(r.Keys, sent)):
		return []identity.PublicKey{sent}
	case !sent.IsZero():
		return nil
	}
	return r.Keys
}
