//go:build bench

package main

import (
	"crypto/rand"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

const (
	portIKE = 500
	portNAT = 4500
)

// crowd is all peers of this process: one endpoint, for the addresses keep them apart at the responder.
type crowd struct {
	endpoint  *ikev2.Endpoint
	responder netip.Addr
	locals    []netip.Addr
	keys      []identity.Signer
	sockets   map[uint16]*socket
	children  map[ikev2.ChildID]*child
	bySPI     map[uint32]*child
	messages  int // datagrams of one handshake that the initiator sends when nothing is lost

	begun, up, failed, sent int
	sending                 []*child // echo requests to come
	echoes                  Echoed
	until                   time.Time // when the last echo may come; zero: nobody waits
}

func newCrowd(responder, first netip.Addr, peers int, offer ikev2.Proposal) (*crowd, error) {
	c := &crowd{
		endpoint:  ikev2.New(ikev2.Config{IKE: []ikev2.Proposal{offer}, Encap: true}, rand.Reader),
		responder: responder, sockets: make(map[uint16]*socket),
		children: make(map[ikev2.ChildID]*child), bySPI: make(map[uint32]*child),
		messages: 2 + 2*len(offer.AddKE), // an ML-KEM-768 public key takes two fragments
	}
	for a := first; len(c.locals) < peers; a = a.Next() {
		key, err := identity.NewEd25519(rand.Reader)
		if err != nil {
			return nil, err
		}
		c.locals, c.keys = append(c.locals, a), append(c.keys, key)
	}
	for _, port := range [...]uint16{portIKE, portNAT} {
		s, err := openSocket(port)
		if err != nil {
			return nil, err
		}
		c.sockets[port] = s
	}
	return c, nil
}

func (c *crowd) close() {
	for _, s := range c.sockets {
		s.close()
	}
}

// least is how many messages the handshakes take when nothing is lost and no cookie is asked for.
func (c *crowd) least() int { return c.up * c.messages }

// begin starts the next peer's handshake.
func (c *crowd) begin() {
	i := c.begun
	c.begun++
	local := c.locals[i]
	request := &ikev2.ChildRequest{
		ID: c.endpoint.NewChild(), SPI: 0x1000 + uint32(i), Local: selector.Set{selector.Host(local)}, Remote: selector.Set{selector.Host(c.responder)},
		Mode: protect.Transport, Strict: true, Offer: []protect.Suite{{Encr: protect.AESGCM16, KeyBits: 128, ESN: true}},
	}
	c.step(ikev2.Initiate{
		SA: c.endpoint.NewHandle(), Local: netip.AddrPortFrom(local, portIKE), Remote: netip.AddrPortFrom(c.responder, portIKE),
		Credential: ikev2.Local{ID: identity.Null(), Method: ikev2.Signature, Key: c.keys[i], SendKey: true},
		Expect:     ikev2.Remote{AnyKey: true}, Child: request, Encap: true,
	})
}

// step feeds one event and all that it brings about at once.
func (c *crowd) step(ev ikev2.Event) {
	for queue := []ikev2.Event{ev}; len(queue) > 0; queue = queue[1:] {
		for _, a := range c.endpoint.Step(time.Now(), queue[0], nil) {
			if next := c.act(a); next != nil {
				queue = append(queue, next)
			}
		}
	}
}

func (c *crowd) act(a ikev2.Action) ikev2.Event {
	switch a := a.(type) {
	case ikev2.Send:
		c.sent++
		c.sockets[a.Local.Port()].send(a.Local.Addr(), a.Remote, marked(a.Local.Port(), a.Data))
	case ikev2.Compute:
		a.Job.Run()
		return ikev2.Computed(a)
	case ikev2.JudgePeer:
		return ikev2.PeerJudged{SA: a.SA}
	case ikev2.JudgeChild:
		return ikev2.ChildJudged{SA: a.SA, Child: a.Child, Local: a.Local, Remote: a.Remote, Mode: a.Mode}
	case ikev2.ChildUp:
		if n := newChild(a); n != nil {
			c.children[a.Child], c.bySPI[a.SPIIn] = n, n
			c.up++
		}
	case ikev2.ChildFailed:
		c.failed++
	case ikev2.ChildDown:
		if n := c.children[a.Child]; n != nil {
			delete(c.children, a.Child)
			delete(c.bySPI, n.up.SPIIn)
		}
	case ikev2.SADown:
		if !a.WasUp {
			c.failed++
		}
	}
	return nil
}

// marked is a message as it goes from a port (RFC 3948 §2.2).
func marked(port uint16, b []byte) []byte {
	if port == portNAT {
		return append(make([]byte, 4, 4+len(b)), b...)
	}
	return b
}

// turn waits for datagrams or for what is due, and works it off.
func (c *crowd) turn() error {
	wait := 100 * time.Millisecond
	if at, ok := c.endpoint.Deadline(); ok {
		wait = min(wait, max(time.Until(at), 0))
	}
	fds := []unix.PollFd{{Fd: int32(c.sockets[portIKE].fd), Events: unix.POLLIN}, {Fd: int32(c.sockets[portNAT].fd), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, int((wait+time.Millisecond-1)/time.Millisecond)); err != nil && err != unix.EINTR {
		return err
	}
	for _, port := range [...]uint16{portIKE, portNAT} {
		if err := c.sockets[port].each(c.datagram); err != nil {
			return err
		}
	}
	if at, ok := c.endpoint.Deadline(); ok && !at.After(time.Now()) {
		c.step(ikev2.Tick{})
	}
	return nil
}

// datagram takes what came in: IKE, or ESP.
func (c *crowd) datagram(local, remote netip.AddrPort, b []byte) {
	if local.Port() == portNAT {
		if len(b) < 4 {
			return
		}
		if b[0]|b[1]|b[2]|b[3] != 0 {
			c.esp(b)
			return
		}
		b = b[4:]
	}
	c.step(ikev2.Datagram{Local: local, Remote: remote, Data: b})
}

// serve goes on answering until it is told to end.
func (c *crowd) serve(signals <-chan os.Signal) error {
	for {
		select {
		case s := <-signals:
			if s == unix.SIGTERM {
				return nil
			}
			c.echoAll()
		default:
		}
		c.echoSome()
		if err := c.turn(); err != nil {
			return err
		}
	}
}
