package flow

import (
	"net/netip"
	"testing"

	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

var (
	gcm  = protect.Suite{Encr: protect.AESGCM16, KeyBits: 128, ESN: true}
	here = netip.MustParseAddr("192.0.2.1")
	peer = netip.MustParseAddr("192.0.2.2")
)

func keysOf(s protect.Suite, seed byte) protect.Keys {
	k := protect.Keys{Encr: make([]byte, s.EncrLen()), Integ: make([]byte, s.Integ.KeyLen())}
	for i := range k.Encr {
		k.Encr[i] = seed + byte(i)
	}
	return k
}

// spec is a transport pair between two hosts, and back is the same seen by the other.
func spec(id PairID, a, b netip.Addr) Spec {
	return Spec{
		ID: id, Suite: gcm, Mode: protect.Transport, SPIIn: 0x1000 + uint32(id), SPIOut: 0x2000 + uint32(id),
		KeysIn: keysOf(gcm, 1), KeysOut: keysOf(gcm, 2), Local: selector.Set{selector.Host(a)}, Remote: selector.Set{selector.Host(b)},
		OuterLocal: netip.AddrPortFrom(a, 4500), OuterRemote: netip.AddrPortFrom(b, 4500), Encap: true,
	}
}

func back(s Spec) Spec {
	s.SPIIn, s.SPIOut, s.KeysIn, s.KeysOut = s.SPIOut, s.SPIIn, s.KeysOut, s.KeysIn
	s.Local, s.Remote, s.OuterLocal, s.OuterRemote = s.Remote, s.Local, s.OuterRemote, s.OuterLocal
	s.SawLocal, s.SawRemote = netip.Addr{}, netip.Addr{}
	return s
}

func pair(tb testing.TB, s Spec) *Pair {
	tb.Helper()
	p, err := NewPair(s)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

// udp is a UDP packet with a right checksum.
func udp(src, dst netip.Addr, sport, dport uint16, n int) []byte {
	return ip(src, dst, selector.UDP, segment(src, dst, selector.UDP, sport, dport, n))
}

func segment(src, dst netip.Addr, proto uint8, sport, dport uint16, n int) []byte {
	b := make([]byte, 20+n)
	if proto == selector.UDP {
		b = b[:8+n]
		b[4], b[5] = byte(len(b)>>8), byte(len(b))
	} else {
		b[12] = 0x50
	}
	b[0], b[1], b[2], b[3] = byte(sport>>8), byte(sport), byte(dport>>8), byte(dport)
	for i := range n {
		b[len(b)-n+i] = byte(i)
	}
	c := UpperChecksum(src, dst, proto, b)
	b[checksumAt(proto)], b[checksumAt(proto)+1] = byte(c>>8), byte(c)
	return b
}

func ip(src, dst netip.Addr, proto uint8, payload []byte) []byte {
	b := make([]byte, 60+len(payload))
	n := PutHeader(b, src, dst, proto, 0, 64, len(payload))
	return append(b[:n], payload...)
}

// A packet goes through in both modes and both families, and is delivered as it was sent.
func TestThrough(t *testing.T) {
	six, six2 := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	for _, c := range []struct {
		name string
		a, b netip.Addr
		mode protect.Mode
	}{
		{"transport v4", here, peer, protect.Transport},
		{"transport v6", six, six2, protect.Transport},
		{"tunnel v4", here, peer, protect.Tunnel},
		{"tunnel v6", six, six2, protect.Tunnel},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec(1, c.a, c.b)
			s.Mode = c.mode
			host := netip.PrefixFrom(c.b, c.b.BitLen())
			out := NewTable().Add(pair(t, s), true).SetPrefix(host, Protect)
			in := NewTable().Add(pair(t, back(s)), true)
			pkt := udp(c.a, c.b, 1000, 53, 100)
			sealed, v := out.Protect(nil, pkt)
			if v.Action != Seal || v.Pair.ID != 1 {
				t.Fatalf("verdict %+v", v)
			}
			got, p, r := in.Unprotect(nil, sealed, c.b, c.a)
			if r != NoReason || p.ID != 1 || string(got) != string(pkt) {
				t.Fatalf("%v\n got %x\nwant %x", r, got, pkt)
			}
			if _, _, r = in.Unprotect(nil, sealed, c.b, c.a); r != Replayed {
				t.Fatalf("replay: %v", r)
			}
		})
	}
}
