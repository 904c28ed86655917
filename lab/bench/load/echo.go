//go:build bench

package main

import (
	"encoding/binary"
	"time"

	"golang.org/x/sys/unix"

	"github.com/btns-ipsec/btns/esp"
	"github.com/btns-ipsec/btns/ikev2"
)

// child is one pair of SAs.
type child struct {
	up     ikev2.ChildUp
	seal   *esp.Sealer
	open   *esp.Opener
	echoed bool
}

func newChild(a ikev2.ChildUp) *child {
	seal, err := esp.NewSealer(a.Suite, a.SPIOut, a.KeysOut)
	if err != nil {
		return nil
	}
	open, err := esp.NewOpener(a.Suite, a.SPIIn, a.KeysIn, 0)
	if err != nil {
		return nil
	}
	return &child{up: a, seal: seal, open: open}
}

const (
	echoRequest = 8
	echoReply   = 0
	// echoBurst is sent between two looks at the sockets, so that nobody's buffer overflows.
	echoBurst = 16
	echoWait  = 2 * time.Second
)

// echoAll begins an echo request under every child.
func (c *crowd) echoAll() {
	c.echoes, c.until = Echoed{}, time.Now().Add(echoWait)
	c.sending = c.sending[:0]
	for _, n := range c.children {
		n.echoed = false
		c.sending = append(c.sending, n)
	}
}

// echoSome sends the next of them, and tells how many came back once that is all or none comes any more.
func (c *crowd) echoSome() {
	for range min(echoBurst, len(c.sending)) {
		n := c.sending[len(c.sending)-1]
		c.sending = c.sending[:len(c.sending)-1]
		if b := n.request(); b != nil {
			c.echoes.Sent++
			c.until = time.Now().Add(echoWait)
			c.sockets[portNAT].send(n.up.OuterLocal.Addr(), n.up.OuterRemote, b)
		}
	}
	if !c.until.IsZero() && len(c.sending) == 0 && (c.echoes.Echoed >= c.echoes.Sent || time.Now().After(c.until)) {
		c.until = time.Time{}
		print(c.echoes)
	}
}

// request is an ICMP echo request in ESP, in transport mode.
func (n *child) request() []byte {
	echo := make([]byte, 64, 128)
	echo[0] = echoRequest
	binary.BigEndian.PutUint16(echo[2:], checksum(echo))
	plain := echo[:n.seal.PutTrailer(echo, len(echo), unix.IPPROTO_ICMP)]
	packet := make([]byte, 0, 256)
	size, err := n.seal.Seal(packet, plain)
	if err != nil {
		return nil
	}
	return packet[:size]
}

func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum + sum>>16)
}

// esp counts the answers.
func (c *crowd) esp(b []byte) {
	n := c.bySPI[binary.BigEndian.Uint32(b)]
	if n == nil {
		return
	}
	plain := make([]byte, len(b))
	size, next, err := n.open.Open(plain, b)
	if err == nil && next == unix.IPPROTO_ICMP && size > 0 && plain[0] == echoReply && !n.echoed {
		n.echoed = true
		c.echoes.Echoed++
	}
}
