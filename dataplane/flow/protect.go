package flow

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"github.com/btns-ipsec/btns/esp"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

// Outer is what arrived around an ESP packet. TTL 0 is unknown.
type Outer struct {
	Local, Remote netip.Addr
	TOS, TTL      uint8
}

// Payload is the part of an outbound packet that goes into ESP, and its next header. IPv4 options and the extension
// headers that stay outside in transport mode are not part of it; a plane that has ESP carried in datagrams of its own
// leaves them out.
func (p *Pair) Payload(pkt []byte, i *PacketInfo) (payload []byte, next byte, r Reason) {
	if p.Mode == protect.Tunnel {
		if i.V6 {
			return pkt[:i.TotalLen], esp.NextIPv6, NoReason
		}
		return pkt[:i.TotalLen], esp.NextIPv4, NoReason
	}
	switch next = pkt[i.NextAt]; {
	case i.Fragment: // RFC 4303 §3.1.1: only whole datagrams
		return nil, 0, Fragmented
	case next == protoIPv4 || next == protoIPv6:
		return nil, 0, BadMode
	}
	return pkt[i.HeaderLen:i.TotalLen], next, NoReason
}

// Protect turns an outbound IP packet into ESP, from the SPI to the ICV, in the capacity of dst, which does not overlap pkt, or
// in a new buffer. The
// outer addresses and ports are those of Verdict.Pair, TOS is Pair.OuterTOS of the packet's (RFC 6040 §4.1), and the hop
// limit is the packet's. Nothing is counted. There is no ESP unless the action is Seal.
func (t *Table) Protect(dst, pkt []byte) ([]byte, Verdict) {
	f, i, err := ParseFlow(pkt, true)
	if err != nil {
		return nil, Verdict{Action: Drop, Reason: Malformed}
	}
	v := t.OutPacket(&f, pkt, &i)
	if v.Action != Seal {
		return nil, v
	}
	out, r := v.Pair.SealPacket(dst, pkt, &i)
	if r != NoReason {
		return nil, Verdict{Action: Drop, Reason: r, Pair: v.Pair}
	}
	return out, v
}

// SealPacket is Protect under this pair.
func (p *Pair) SealPacket(dst, pkt []byte, i *PacketInfo) ([]byte, Reason) {
	payload, next, r := p.Payload(pkt, i)
	if r != NoReason {
		return nil, r
	}
	s := p.Sealer()
	dst = slices.Grow(dst[:0], s.Overhead()+len(payload))
	dst = dst[:cap(dst)]
	plain := dst[s.HeadLen():]
	n := s.PutTrailer(plain, copy(plain, payload), next)
	n, err := s.Seal(dst, plain[:n])
	switch {
	case errors.Is(err, esp.ErrExhausted):
		return nil, SpentSA
	case err != nil:
		return nil, SendFailed
	}
	return dst[:n], NoReason
}

// Unprotect opens an ESP packet, from the SPI to the ICV, that came from outerRemote to outerLocal, and gives the IP packet
// to deliver, in the capacity of dst, which does not overlap packet, or in a new buffer. The pair is named whenever its SPI was found. Nothing is counted.
func (t *Table) Unprotect(dst, packet []byte, outerLocal, outerRemote netip.Addr) ([]byte, *Pair, Reason) {
	return t.Open(dst, packet, Outer{Local: outerLocal, Remote: outerRemote})
}

// Open is Unprotect of a packet of whose outer header more is known.
func (t *Table) Open(dst, packet []byte, o Outer) ([]byte, *Pair, Reason) {
	if len(packet) < esp.HeaderLen {
		return nil, nil, Malformed
	}
	p := t.BySPI(binary.BigEndian.Uint32(packet))
	if p == nil {
		return nil, nil, UnknownSPI
	}
	pkt, f, r := p.open(dst, packet, o)
	if r == NoReason {
		r = t.Opened(&f)
	}
	if r != NoReason {
		pkt = nil
	}
	return pkt, p, r
}

// OpenPacket is Open under this pair, without the rules of a table.
func (p *Pair) OpenPacket(dst, packet []byte, o Outer) ([]byte, Reason) {
	pkt, _, r := p.open(dst, packet, o)
	return pkt, r
}

func (p *Pair) open(dst, packet []byte, o Outer) ([]byte, selector.Flow, Reason) {
	if p.Spent() {
		return nil, selector.Flow{}, SpentSA
	}
	room := p.HeadRoom()
	dst = slices.Grow(dst[:0], room+p.Opener().PlainLen(len(packet)))
	dst = dst[:cap(dst)]
	n, next, err := p.Opener().Open(dst[room:], packet)
	if err != nil {
		return nil, selector.Flow{}, OpenReason(err)
	}
	pkt, f, _, r := p.Deliver(dst[:room+n], next, o)
	return pkt, f, r
}

// OpenReason is why a packet is dropped that did not open.
func OpenReason(err error) Reason {
	switch {
	case err == nil:
		return NoReason
	case errors.Is(err, esp.ErrReplay):
		return Replayed
	case errors.Is(err, esp.ErrICV):
		return BadICV
	case errors.Is(err, esp.ErrPadding):
		return BadPadding
	}
	return Malformed
}

// HeadRoom is how many octets Deliver needs in front of an opened payload: an IP header in transport mode.
func (p *Pair) HeadRoom() int {
	switch {
	case p.Mode == protect.Tunnel:
		return 0
	case p.OuterLocal.Addr().Is4():
		return ipv4Len
	}
	return ipv6Len
}

// Deliver makes the IP packet to hand on from what opened under p: buf is HeadRoom octets, then the payload without the
// trailer, of which next is the next header. The packet is a part of buf. Whether the SA allows the packet is checked here
// (RFC 4301 §5.2 step 4).
func (p *Pair) Deliver(buf []byte, next byte, o Outer) (pkt []byte, f selector.Flow, i PacketInfo, r Reason) {
	if next == esp.NextDummy {
		return nil, f, i, Dummy
	}
	if p.Mode == protect.Tunnel {
		pkt, r = buf, NoReason
		if next != esp.NextIPv4 && next != esp.NextIPv6 || len(buf) > 0 && (buf[0]>>4 == 4) != (next == esp.NextIPv4) {
			r = BadMode
		}
	} else {
		pkt, r = p.outermost(buf, next, o)
	}
	if r != NoReason {
		return nil, f, i, r
	}
	var err error
	if f, i, err = ParseFlow(pkt, false); err != nil {
		return nil, f, i, Malformed
	}
	pkt = pkt[:i.TotalLen] // what is behind is padding for traffic flow confidentiality (RFC 4303 §2.7)
	if r = p.CheckIn(&f, pkt, &i); r != NoReason {
		return nil, f, i, r
	}
	if p.Mode == protect.Transport {
		is := Addrs{f.Remote, f.Local}
		RepairChecksum(pkt[i.UpperAt:], i.Upper, p.was(is), is)
		return pkt, f, i, NoReason
	}
	ecn, ok, _ := DecapsulateECN(i.TOS, o.TOS)
	if !ok {
		return nil, f, i, EcnDrop
	}
	setECN(pkt, i.V6, ecn)
	return pkt, f, i, NoReason
}

// outermost puts the header of the outer packet in front of a transport-mode payload.
func (p *Pair) outermost(buf []byte, next byte, o Outer) ([]byte, Reason) {
	room := p.HeadRoom()
	if next == protoIPv4 || next == protoIPv6 || len(buf) < room { // never unwrapped as if this were a tunnel
		return nil, BadMode
	}
	is := p.ends(o)
	if is.Src.Is4() != (room == ipv4Len) || is.Dst.Is4() != (room == ipv4Len) {
		return nil, BadSelector
	}
	if len(buf) > 0xffff {
		return nil, Malformed
	}
	PutHeader(buf, is.Src, is.Dst, next, o.TOS, o.TTL, len(buf)-room)
	return buf, NoReason
}

// ends are the addresses that a transport-mode packet is delivered with: those of the outer packet. A peer that moves
// stays for applications who it was when the SA was made.
func (p *Pair) ends(o Outer) Addrs {
	a := Addrs{Src: o.Remote.Unmap(), Dst: o.Local.Unmap()}
	if !a.Src.IsValid() {
		a.Src = p.OuterRemote.Addr()
	}
	if !a.Dst.IsValid() {
		a.Dst = p.OuterLocal.Addr()
	}
	if host := p.host(); p.PeerMoves && host.IsValid() {
		a.Src = host
	}
	return a
}

// was are the addresses over which the peer computed its checksums.
func (p *Pair) was(is Addrs) Addrs {
	local, remote := p.Saw()
	if remote.IsValid() {
		is.Src = remote
	}
	if local.IsValid() {
		is.Dst = local
	}
	return is
}

// CheckIn is whether an opened packet is what its SA allows (RFC 4301 §5.2 step 4). An ICMP error passes where the packet
// that it quotes could have been sent (§6.2).
func (p *Pair) CheckIn(f *selector.Flow, pkt []byte, i *PacketInfo) Reason {
	switch {
	case i.Fragment && p.Mode == protect.Transport:
		return Fragmented
	case p.carries(f):
		return NoReason
	}
	if q, ok := quoted(pkt, i, true); ok && p.carriesLocal(f.Local) && p.carries(&q) {
		return NoReason
	}
	return BadSelector
}

// OutPacket is Out for a packet at hand: an ICMP error that no SA takes goes where the answers to the packet go that it
// quotes (RFC 4301 §6.2).
func (t *Table) OutPacket(f *selector.Flow, pkt []byte, i *PacketInfo) Verdict {
	v := t.Out(f)
	if v.Action != Queue && (v.Action != Drop || v.Reason != NoSA) {
		return v
	}
	q, ok := quoted(pkt, i, false)
	if !ok {
		return v
	}
	// The quoted packet came in: seen from here its answers go to where it came from.
	p := t.sender(t.longest(q.Remote), &q)
	if p == nil || p.Spent() || !p.carriesRemote(f.Remote) {
		return v
	}
	return Verdict{Action: Seal, Pair: p}
}
