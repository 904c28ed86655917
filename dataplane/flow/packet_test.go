package flow

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/esp"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/selector"
)

var six, six2 = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// four is an IPv4 packet with options and a fragment field.
func four(t testing.TB, frag uint16, proto byte, options, payload string) []byte {
	o, p := unhex(t, options), unhex(t, payload)
	b := make([]byte, 20, 100)
	b[0], b[8], b[9] = 0x40|byte(5+len(o)/4), 64, proto
	binary.BigEndian.PutUint16(b[6:], frag)
	copy(b[12:], here.AsSlice())
	copy(b[16:], peer.AsSlice())
	b = append(append(b, o...), p...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	setChecksum4(b[:20+len(o)])
	return b
}

// sixth is an IPv6 packet whose extension headers and payload are given.
func sixth(t testing.TB, next byte, rest string) []byte {
	p := unhex(t, rest)
	b := make([]byte, 40+len(p))
	PutHeader(b, six, six2, next, 0xb9, 64, len(p))
	copy(b[40:], p)
	return b
}

const (
	udpHex = "03e8 0035 0008 0000"
	tcpHex = "03e8 0035 00000000 00000000 5002 0000 00000000"
)

func TestParseFlow(t *testing.T) {
	cases := []struct {
		name   string
		in     []byte
		bad    bool
		proto  uint8
		l, r   uint16
		hidden bool
		frag   bool
		header int // HeaderLen
		next   int // NextAt
		upper  int // UpperAt
	}{
		{name: "UDP", in: four(t, 0, 17, "", udpHex), proto: 17, l: 1000, r: 53, header: 20, next: 9, upper: 20},
		{name: "octets behind the packet", in: append(four(t, 0, 17, "", udpHex), 1, 2, 3), proto: 17, l: 1000, r: 53, header: 20, next: 9, upper: 20},
		{name: "option past the header", in: four(t, 0, 6, "01 07 04 04", tcpHex), bad: true},
		{name: "record route", in: four(t, 0, 6, "07 07 04 00000000 01", tcpHex), proto: 6, l: 1000, r: 53, header: 28, next: 9, upper: 28},
		{name: "source route to go", in: four(t, 0, 6, "83 07 04 c0000209 01", tcpHex), bad: true},
		{name: "source route gone", in: four(t, 0, 6, "83 07 08 c0000209 01", tcpHex), proto: 6, l: 1000, r: 53, header: 28, next: 9, upper: 28},
		{name: "option of no length", in: four(t, 0, 6, "83 00 04 00", tcpHex), bad: true},
		{name: "ICMP type and code are ports", in: four(t, 0, 1, "", "0305 0000 00000000"), proto: 1, l: 0x305, r: 0x305, header: 20, next: 9, upper: 20},
		{name: "first fragment has ports", in: four(t, 0x2000, 17, "", udpHex), proto: 17, l: 1000, r: 53, frag: true, header: 20, next: 9, upper: 20},
		{name: "later fragment has none", in: four(t, 0x0010, 17, "", udpHex), proto: 17, hidden: true, frag: true, header: 20, next: 9, upper: 20},
		{name: "TCP fragment over the flags (RFC 3128)", in: four(t, 0x0001, 6, "", tcpHex), bad: true},
		{name: "fragment past 65535", in: four(t, 0x1fff, 17, "", udpHex), bad: true},
		{name: "TCP header cut", in: four(t, 0, 6, "", tcpHex[:40]), bad: true},
		{name: "UDP header cut", in: four(t, 0, 17, "", "03e8 0035"), bad: true},
		{name: "other protocols have no ports", in: four(t, 0, 47, "", ""), proto: 47, header: 20, next: 9, upper: 20},
		{name: "cut", in: four(t, 0, 17, "", udpHex)[:27], bad: true},
		{name: "version 5", in: append([]byte{0x55}, make([]byte, 60)...), bad: true},
		{name: "nothing", in: nil, bad: true},
		{name: "v6 UDP", in: sixth(t, 17, udpHex), proto: 17, l: 1000, r: 53, header: 40, next: 6, upper: 40},
		{name: "v6 hop-by-hop stays in front", in: sixth(t, 0, "1100 0104 00000000"+udpHex), proto: 17, l: 1000, r: 53, header: 48, next: 40, upper: 48},
		{name: "v6 destination options are protected", in: sixth(t, 60, "1100 0104 00000000"+udpHex), proto: 17, l: 1000, r: 53, header: 40, next: 6, upper: 48},
		{
			name: "v6 destination options before routing stay in front", in: sixth(t, 60, "2b00 0104 00000000 1100 0400 00000000"+udpHex),
			proto: 17, l: 1000, r: 53, header: 56, next: 48, upper: 56,
		},
		{name: "v6 not at the last destination (RFC 5095)", in: sixth(t, 43, "1102 0001 00000000"+strings.Repeat("00", 16)+udpHex), bad: true},
		{name: "v6 hop-by-hop not first", in: sixth(t, 60, "0000 0104 00000000 1100 0104 00000000"+udpHex), bad: true},
		{name: "v6 first fragment", in: sixth(t, 44, "1100 0001 00000007"+udpHex), proto: 17, l: 1000, r: 53, frag: true, header: 48, next: 40, upper: 48},
		{name: "v6 atomic fragment", in: sixth(t, 44, "1100 0000 00000007"+udpHex), proto: 17, l: 1000, r: 53, header: 48, next: 40, upper: 48},
		{name: "v6 later fragment", in: sixth(t, 44, "1100 0010 00000007"+udpHex), proto: 17, hidden: true, frag: true, header: 48, next: 40, upper: 48},
		{name: "v6 two fragment headers", in: sixth(t, 44, "2c00 0000 00000007 1100 0000 00000007"+udpHex), bad: true},
		{name: "v6 extension past the end", in: sixth(t, 60, "1103 0104 00000000"+udpHex), bad: true},
		{name: "v6 too many extensions", in: sixth(t, 60, strings.Repeat("3c00 0104 00000000", 9)+"1100 0104 00000000"+udpHex), bad: true},
		{name: "v6 no next header", in: sixth(t, 59, ""), proto: 59, header: 40, next: 6, upper: 40},
		{name: "v6 mapped address", in: mapped(t), bad: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f, i, err := ParseFlow(c.in, true)
			if (err != nil) != c.bad {
				t.Fatalf("%v", err)
			}
			if c.bad {
				return
			}
			if f.Proto != c.proto || f.LocalPort != c.l || f.RemotePort != c.r || f.NoPorts != c.hidden || i.Fragment != c.frag ||
				i.HeaderLen != c.header || i.NextAt != c.next || i.UpperAt != c.upper {
				t.Fatalf("%+v %+v", f, i)
			}
			if i.V6 && i.TOS != 0xb9 || i.TTL != 64 {
				t.Fatalf("%+v", i)
			}
			back, _, err := ParseFlow(c.in, false)
			if err != nil || back.Local != f.Remote || back.Remote != f.Local || back.LocalPort != f.RemotePort || back.RemotePort != f.LocalPort {
				t.Fatalf("inbound %+v", back)
			}
		})
	}
}

func mapped(t testing.TB) []byte {
	b := sixth(t, 17, udpHex)
	m := netip.MustParseAddr("::ffff:192.0.2.2").As16()
	copy(b[24:], m[:])
	return b
}

// RFC 6040 figure 4.
func TestDecapsulateECN(t *testing.T) {
	const x = 9          // drop
	want := [4][4]uint8{ // inner, outer by code point: Not-ECT, ECT(1), ECT(0), CE
		notECT: {notECT, notECT, notECT, x},
		ect1:   {ect1, ect1, ect1, ce},
		ect0:   {ect0, ect1, ect0, ce},
		ce:     {ce, ce, ce, ce},
	}
	for inner := range want {
		for outer, w := range want[inner] {
			if ecn, ok, _ := DecapsulateECN(uint8(inner), uint8(outer)); ok != (w != x) || ok && ecn != w {
				t.Errorf("inner %d, outer %d: %d %v", inner, outer, ecn, ok)
			}
		}
	}
}

// RFC 1071 §3 has these octets.
func TestChecksum(t *testing.T) {
	if c := Checksum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); c != ^uint16(0xddf2) {
		t.Errorf("%04x", c)
	}
	if c := Checksum([]byte{0x12}); c != ^uint16(0x1200) {
		t.Errorf("odd: %04x", c)
	}
}

// A repaired checksum is the one computed over the new addresses (RFC 3948 §3.1.2).
func TestRepairChecksum(t *testing.T) {
	for _, fam := range [][3]netip.Addr{{here, peer, peerAt("10.0.0.9")}, {six, six2, netip.MustParseAddr("fd00::9")}} {
		for _, proto := range []uint8{selector.TCP, selector.UDP} {
			for n := range 300 {
				was, is := Addrs{fam[2], fam[0]}, Addrs{fam[1], fam[0]}
				s := segment(was.Src, was.Dst, proto, uint16(n*211), 53, n)
				RepairChecksum(s, proto, was, is)
				if UpperChecksum(is.Src, is.Dst, proto, s) != 0 || proto == selector.UDP && s[6] == 0 && s[7] == 0 {
					t.Fatalf("protocol %d, %d octets: %x", proto, n, s[:8])
				}
			}
		}
	}
	none := segment(here, peer, selector.UDP, 1, 2, 4)
	none[6], none[7] = 0, 0
	RepairChecksum(none, selector.UDP, Addrs{here, peer}, Addrs{peer, here})
	RepairChecksum(none, selector.UDP, Addrs{here, peer}, Addrs{six, six2})
	if none[6] != 0 || none[7] != 0 {
		t.Error("a UDP checksum of none was changed")
	}
	RepairChecksum([]byte{1, 2}, selector.TCP, Addrs{here, peer}, Addrs{peer, here})
}

// Too-big errors are well-formed, name the MTU, quote the packet, and are not sent about what must not be answered
// (RFC 1122 §3.2.2, RFC 4443 §2.4).
func TestPacketTooBig(t *testing.T) {
	big4, big6 := udp(here, peer, 1000, 53, 1450), udp(six, six2, 1000, 53, 1450)
	e := PacketTooBig(nil, big4, peer, 1400)
	f, i, err := ParseFlow(e, false)
	if err != nil || f.Local != here || f.Remote != peer || f.LocalPort != 0x304 || binary.BigEndian.Uint16(e[26:]) != 1400 ||
		Checksum(e[:20]) != 0 || Checksum(e[20:]) != 0 || !bytes.Equal(e[28:], big4[:28]) {
		t.Errorf("IPv4: %+v %x %v", f, e, err)
	}
	if q, ok := quoted(e, &i, true); !ok || q.RemotePort != 53 || q.Remote != peer {
		t.Errorf("quoted: %+v", q)
	}
	e = PacketTooBig(make([]byte, 2000), big6, six2, 1300)
	f, _, err = ParseFlow(e, false)
	if err != nil || f.Local != six || f.LocalPort != 0x200 || binary.BigEndian.Uint32(e[44:]) != 1300 || len(e) != 1280 ||
		UpperChecksum(six2, six, selector.ICMPv6, e[40:]) != 0 || !bytes.Equal(e[48:], big6[:len(e)-48]) {
		t.Errorf("IPv6: %+v %v", f, err)
	}
	low := PacketTooBig(nil, big6, six2, 1000)
	if binary.BigEndian.Uint32(low[44:]) != 1280 {
		t.Error("IPv6 below 1280 (RFC 8200 §5)")
	}
	may := bytes.Clone(big4)
	may[6] = 0
	setChecksum4(may[:20])
	for name, pkt := range map[string][]byte{
		"without DF": may, "about an error": PacketTooBig(nil, big4, peer, 1400), "multicast": udp(here, peerAt("224.0.0.1"), 1, 2, 1400),
		"garbage": {1, 2}, "later fragment": four(t, 0x4010, 17, "", udpHex), "from nobody": udp(netip.IPv4Unspecified(), peer, 1, 2, 9),
	} {
		if e := PacketTooBig(nil, pkt, peer, 1400); e != nil {
			t.Errorf("%s: %x", name, e)
		}
	}
}

// The MSS is lowered, never raised, and the checksum stays right (RFC 6691).
func TestClampMSS(t *testing.T) {
	syn := func(options string, flags byte) []byte {
		o := unhex(t, options)
		s := make([]byte, 20, 60)
		s[1], s[3], s[12], s[13] = 9, 80, byte(5+len(o)/4)<<4, flags
		s = append(s, o...)
		binary.BigEndian.PutUint16(s[16:], UpperChecksum(here, peer, selector.TCP, s))
		return ip(here, peer, selector.TCP, s)
	}
	for _, c := range []struct {
		name    string
		options string
		flags   byte
		want    uint16 // 0: unchanged
		at      int
	}{
		{"SYN", "020405b4", 2, 1360, 2},
		{"SYN ACK", "020405b4", 0x12, 1360, 2},
		{"lower already", "02040200", 2, 0, 2},
		{"not SYN", "020405b4", 0x10, 0, 2},
		{"odd offset", "01 020405b4 010101", 2, 1360, 3},
		{"behind others", "0402 0303 07 020405b4 0000 00", 2, 1360, 7},
		{"none", "01010101", 2, 0, 0},
		{"broken option", "0300 05b4", 2, 0, 2},
		{"cut", "010101 02", 2, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			pkt := syn(c.options, c.flags)
			before := bytes.Clone(pkt)
			_, i, err := ParseFlow(pkt, true)
			if err != nil {
				t.Fatal(err)
			}
			if ClampMSS(pkt, &i, 1400, false) != (c.want != 0) {
				t.Fatal("clamped or not")
			}
			if c.want == 0 && !bytes.Equal(pkt, before) {
				t.Fatal("changed")
			}
			if c.want != 0 && (binary.BigEndian.Uint16(pkt[40+c.at:]) != c.want || UpperChecksum(here, peer, selector.TCP, pkt[20:]) != 0) {
				t.Fatalf("%x", pkt[20:])
			}
			if c.want != 0 && (!ClampMSS(before, &i, 1400, true) || !bytes.Equal(before[36:38], syn(c.options, c.flags)[36:38])) {
				t.Fatal("a partial checksum was changed")
			}
		})
	}
}

// InnerMTU is exact: that much fits into the path, one octet more does not.
func TestInnerMTU(t *testing.T) {
	suites := []protect.Suite{gcm, {Encr: protect.AESCBC, KeyBits: 256, Integ: protect.HMACSHA512}, {Encr: protect.ChaCha20Poly1305, KeyBits: 256}}
	for _, s := range suites {
		for _, mode := range []protect.Mode{protect.Transport, protect.Tunnel} {
			for _, ends := range [][2]netip.Addr{{here, peer}, {six, six2}} {
				sp := spec(1, ends[0], ends[1])
				sp.Suite, sp.Mode, sp.KeysIn, sp.KeysOut = s, mode, keysOf(s, 1), keysOf(s, 2)
				p := pair(t, sp)
				header := ipv4Len
				if !ends[0].Is4() {
					header = ipv6Len
				}
				size := func(n int) int {
					pkt := udp(ends[0], ends[1], 1, 2, n-header-8)
					_, i, err := ParseFlow(pkt, true)
					if err != nil {
						t.Fatal(err)
					}
					out, r := p.SealPacket(nil, pkt, &i)
					if r != NoReason {
						t.Fatal(r)
					}
					return len(out) + header + 8
				}
				for path := 1400; path < 1420; path++ {
					n := p.InnerMTU(path)
					if size(n) > path || size(n+1) <= path {
						t.Fatalf("%v %v path %d: inner %d gives %d, and one more %d", s, mode, path, n, size(n), size(n+1))
					}
				}
			}
		}
	}
}

// An ICMP error from a router travels with the packets that it is about, and only with those (RFC 4301 §6.2).
func TestQuotedErrors(t *testing.T) {
	network := netip.MustParsePrefix("10.0.0.0/8")
	inside, router := peerAt("10.0.0.5"), peerAt("198.51.100.1")
	s := spec(1, here, peer)
	s.Mode = protect.Tunnel
	s.Remote = selector.Set{{Proto: selector.UDP, Ports: selector.PortRange{From: 53, To: 53}, From: network.Addr(), To: peerAt("10.255.255.255")}}
	gate := NewTable().Add(pair(t, s), true).SetPrefix(network, Protect)

	b := back(s)
	b.Local, b.Remote = s.Remote, s.Local
	far := NewTable().Add(pair(t, b), true).SetPrefix(host(here), Protect)

	errorAbout := func(from, to netip.Addr, quote []byte) []byte {
		m := append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, quote[:28]...)
		binary.BigEndian.PutUint16(m[2:], Checksum(m))
		return ip(from, to, selector.ICMP, m)
	}
	for _, c := range []struct {
		name string
		pkt  []byte
		pass bool
	}{
		{"about our packet", errorAbout(router, here, udp(here, inside, 1000, 53, 30)), true},
		{"about another port", errorAbout(router, here, udp(here, inside, 1000, 54, 30)), false},
		{"about another's packet", errorAbout(router, here, udp(peer, inside, 1000, 53, 30)), false},
		{"about an error", errorAbout(router, here, errorAbout(here, inside, udp(here, inside, 1000, 53, 30))), false},
		{"to somebody else", errorAbout(router, peer, udp(here, inside, 1000, 53, 30)), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sealed, v := far.Protect(nil, c.pkt)
			// Whatever the sender thinks of it, the receiver decides by itself.
			if v.Action != Seal {
				p := far.Pair(1)
				buf := make([]byte, 1500)
				n := p.Sealer().PutTrailer(buf[p.Sealer().HeadLen():], copy(buf[p.Sealer().HeadLen():], c.pkt), esp.NextIPv4)
				n, err := p.Sealer().Seal(buf, buf[p.Sealer().HeadLen():][:n])
				if err != nil {
					t.Fatal(err)
				}
				sealed = buf[:n]
			}
			if c.pass != (v.Action == Seal) {
				t.Errorf("outbound: %+v", v)
			}
			if _, _, r := gate.Unprotect(nil, sealed, here, peer); (r == NoReason) != c.pass {
				t.Errorf("inbound: %v", r)
			}
		})
	}
}

// A peer behind a NAT keeps, for applications, the address that its SA was made with.
func TestMovedPeer(t *testing.T) {
	s := spec(1, here, peer)
	s.PeerMoves = true
	in := NewTable().Add(pair(t, s), true)
	out := NewTable().Add(pair(t, back(s)), true).SetPrefix(host(here), Protect)
	sealed, v := out.Protect(nil, udp(peer, here, 53, 1000, 9))
	if v.Action != Seal {
		t.Fatalf("%+v", v)
	}
	pkt, _, r := in.Unprotect(nil, sealed, here, peerAt("203.0.113.77"))
	if f, _, err := ParseFlow(pkt, false); r != NoReason || err != nil || f.Remote != peer {
		t.Errorf("%v %+v", r, f)
	}
	s.PeerMoves = false
	stays := NewTable().Add(pair(t, s), true)
	sealed, _ = out.Protect(nil, udp(peer, here, 53, 1000, 9))
	if _, _, r := stays.Unprotect(nil, sealed, here, peerAt("203.0.113.77")); r != BadSelector {
		t.Errorf("from another address: %v", r)
	}
}

// FuzzParseFlow: no panic, and what is reported lies within the packet.
func FuzzParseFlow(f *testing.F) {
	f.Add(four(f, 0, 17, "", udpHex))
	f.Add(four(f, 0, 6, "07 07 04 00000000 01", tcpHex))
	f.Add(sixth(f, 60, "2b00 0104 00000000 1100 0400 00000000"+udpHex))
	f.Add(sixth(f, 44, "1100 0010 00000007"+udpHex))
	f.Add(PacketTooBig(nil, udp(here, peer, 1, 2, 1400), peer, 1300))
	f.Add(PacketTooBig(nil, udp(six, six2, 1, 2, 1400), six2, 1300))
	f.Fuzz(func(t *testing.T, pkt []byte) {
		fl, i, err := ParseFlow(pkt, true)
		if err != nil {
			return
		}
		if i.HeaderLen > i.UpperAt || i.UpperAt > i.TotalLen || i.TotalLen > len(pkt) || i.NextAt >= i.HeaderLen {
			t.Fatalf("%+v of %d octets", i, len(pkt))
		}
		if fl.Local.Is4() == i.V6 || fl.Local.Is4In6() || fl.Remote.Is4() != fl.Local.Is4() {
			t.Fatalf("%+v", fl)
		}
		quoted(pkt, &i, true)
		ClampMSS(bytes.Clone(pkt), &i, 1280, false)
		PacketTooBig(nil, pkt, fl.Remote, 1280)
		setECN(bytes.Clone(pkt), i.V6, 3)
	})
}

// FuzzDeliver: whatever an authentic peer puts into its packets, what is delivered is within the selectors.
func FuzzDeliver(f *testing.F) {
	f.Add(true, byte(4), udp(peer, here, 1, 2, 9))
	f.Add(false, byte(17), udp(peer, here, 1, 2, 9)[20:])
	f.Add(false, byte(60), unhex(f, "1100 0104 00000000"+udpHex))
	f.Fuzz(func(t *testing.T, tunnel bool, next byte, payload []byte) {
		for _, ends := range [][2]netip.Addr{{here, peer}, {six, six2}} {
			s := spec(1, ends[0], ends[1])
			s.SawRemote = peerAt("10.0.0.1")
			if tunnel {
				s.Mode = protect.Tunnel
			}
			p := pair(t, s)
			room := p.HeadRoom()
			buf := append(make([]byte, room), payload...)
			pkt, fl, i, r := p.Deliver(buf, next, Outer{Local: ends[0], Remote: ends[1], TOS: 3})
			if r != NoReason {
				continue
			}
			got, info, err := ParseFlow(pkt, false)
			if err != nil || got != fl || info.TotalLen != len(pkt) || i.UpperAt != info.UpperAt {
				t.Fatalf("delivered %x: %+v, %v", pkt, got, err)
			}
			if p.CheckIn(&got, pkt, &info) != NoReason || !tunnel && info.Fragment {
				t.Fatalf("delivered %+v", got)
			}
		}
	})
}
