//go:build linux

package tun

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// redirector makes the device invisible to who looks at interfaces. What came out of ESP enters the host by the interface
// of the way back, so that "iifname eth0" filters hold for it as for clear text (BTNS-CORE-24). What leaves by that
// interface with this host's address although it should be protected, as the traffic of masqueraded containers and of
// programs bound to the interface does, is taken to the device.
type redirector struct {
	h       *host
	places  *ebpf.Map // prefix of remote addresses -> place
	locals  *ebpf.Map // addresses of this host
	enter   *ebpf.Program
	leave   *ebpf.Program
	covered map[int]bool // interfaces that leave is attached to
}

// placeLen is the value of the map: interface index, how many octets of link header it has, Ethernet address, and whether
// it is a single host's; prefixes of more are diverted by the device's routes only.
const (
	placeLen   = 20
	placeIndex = 0
	placeLink  = 4
	placeMAC   = 8
	placeHost  = 16

	keyLen     = 20 // prefix length, address
	maxPlaces  = 1 << 18
	maxLocals  = 1 << 12
	etherLen   = 14
	filterName = "btns"
	filterPref = 0xb7
)

// Offsets in struct __sk_buff and the IP headers, and helper constants, as the kernel's API has them.
const (
	skbMark     = 8
	skbProtocol = 16
	fromNetwork = 1 // BPF_HDR_START_NET
	toIngress   = 1 // BPF_F_INGRESS
	noTrie      = unix.BPF_F_NO_PREALLOC
	verdictNext = -1 // TC_ACT_UNSPEC
)

func newRedirector(h *host) (r *redirector, err error) {
	_ = rlimit.RemoveMemlock()
	r = &redirector{h: h, covered: make(map[int]bool)}
	defer func() {
		if err != nil {
			r.free()
		}
	}()
	r.places, err = ebpf.NewMap(&ebpf.MapSpec{Name: "btns_places", Type: ebpf.LPMTrie, KeySize: keyLen, ValueSize: placeLen, MaxEntries: maxPlaces, Flags: noTrie})
	if err != nil {
		return nil, err
	}
	r.locals, err = ebpf.NewMap(&ebpf.MapSpec{Name: "btns_locals", Type: ebpf.Hash, KeySize: 16, ValueSize: 1, MaxEntries: maxLocals})
	if err != nil {
		return nil, err
	}
	if r.enter, err = load("btns_enter", r.entering()); err != nil {
		return nil, err
	}
	if r.leave, err = load("btns_leave", r.leaving()); err != nil {
		return nil, err
	}
	if err = attach(h.nl, h.link.Attrs().Index, netlink.HANDLE_MIN_INGRESS, r.enter); err != nil {
		return nil, err
	}
	return r, r.learn()
}

func load(name string, code asm.Instructions) (*ebpf.Program, error) {
	return ebpf.NewProgram(&ebpf.ProgramSpec{Name: name, Type: ebpf.SchedCLS, Instructions: code, License: "Apache-2.0"})
}

// Places on the stack of the programs.
const (
	stackKey  = -keyLen - 4    // the key of the map
	stackLink = stackKey - 16  // a link header
	stackAddr = stackLink - 16 // an address
	stackByte = stackAddr - 8  // protocol, type
)

// key has the address of the packet, which ctx in R6 is about, looked up: at4 and at6 are its offsets in the IP header.
// R0 is the place, or the program goes to "next".
func (r *redirector) key(at4, at6 int32) asm.Instructions {
	code := asm.Instructions{
		asm.StoreImm(asm.RFP, stackKey, 128, asm.Word),
		asm.LoadMem(asm.R7, asm.R6, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R7, int32(hostToNet(unix.ETH_P_IPV6)), "v6"),
		asm.JNE.Imm(asm.R7, int32(hostToNet(unix.ETH_P_IP)), "next"),
		asm.StoreImm(asm.RFP, stackKey+4, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackKey+8, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackKey+12, int64(int32(mapped)), asm.Word),
	}
	code = append(code, loadBytes(at4, stackKey+16, 4)...)
	code = append(code, asm.Ja.Label("lookup"))
	code = append(code, loadBytes(at6, stackKey+4, 16).label("v6")...)
	code = append(code,
		asm.LoadMapPtr(asm.R1, r.places.FD()).WithSymbol("lookup"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackKey),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "next"),
	)
	return code
}

// mapped is the third word of an IPv4-mapped address, as it lies in memory.
var mapped = nativeOrder.Uint32([]byte{0, 0, 0xff, 0xff})

type block asm.Instructions

func (b block) label(name string) block {
	b[0] = b[0].WithSymbol(name)
	return b
}

// loadBytes copies n octets of the packet, from its network header on, to the stack; it fails to "next".
func loadBytes(at int32, to int16, n int32) block {
	return block{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, at),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, int32(to)),
		asm.Mov.Imm(asm.R4, n),
		asm.Mov.Imm(asm.R5, fromNetwork),
		asm.FnSkbLoadBytesRelative.Call(),
		asm.JNE.Imm(asm.R0, 0, "next"),
	}
}

func next() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, verdictNext).WithSymbol("next"), asm.Return()}
}

// entering is the program for packets that the plane writes to the device.
func (r *redirector) entering() asm.Instructions {
	code := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	code = append(code, r.key(12, 8)...)
	code = append(code,
		asm.Mov.Reg(asm.R8, asm.R0),
		asm.LoadMem(asm.R1, asm.R6, skbMark, asm.Word),
		asm.Or.Imm(asm.R1, int32(r.h.cfg.Mark)),
		asm.StoreMem(asm.R6, skbMark, asm.R1, asm.Word),
		asm.LoadMem(asm.R9, asm.R8, placeIndex, asm.Word),
		asm.LoadMem(asm.R1, asm.R8, placeLink, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "redirect"),
		// A link header to the interface's own address: then the packet is for this host.
		asm.LoadMem(asm.R1, asm.R8, placeMAC, asm.Word),
		asm.StoreMem(asm.RFP, stackLink, asm.R1, asm.Word),
		asm.LoadMem(asm.R1, asm.R8, placeMAC+4, asm.Half),
		asm.StoreMem(asm.RFP, stackLink+4, asm.R1, asm.Half),
		asm.StoreImm(asm.RFP, stackLink+6, 0, asm.Half),
		asm.StoreImm(asm.RFP, stackLink+8, 0, asm.Word),
		asm.StoreMem(asm.RFP, stackLink+12, asm.R7, asm.Half),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, etherLen),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeHead.Call(),
		asm.JNE.Imm(asm.R0, 0, "next"),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stackLink),
		asm.Mov.Imm(asm.R4, etherLen),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, "next"),
		asm.Mov.Reg(asm.R1, asm.R9).WithSymbol("redirect"),
		asm.Mov.Imm(asm.R2, toIngress),
		asm.FnRedirect.Call(),
		asm.Return(),
	)
	return append(code, next()...)
}

// leaving is the program for packets that leave by an interface of the host.
func (r *redirector) leaving() asm.Instructions {
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, skbMark, asm.Word),
		asm.And.Imm(asm.R1, int32(r.h.cfg.outer())),
		asm.JNE.Imm(asm.R1, 0, "next"),
	}
	code = append(code, r.key(16, 24)...)
	code = append(code,
		asm.LoadMem(asm.R1, asm.R0, placeHost, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "next"),
		asm.JEq.Imm(asm.R7, int32(hostToNet(unix.ETH_P_IPV6)), "from6"),
		asm.StoreImm(asm.RFP, stackAddr, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackAddr+4, 0, asm.Word),
		asm.StoreImm(asm.RFP, stackAddr+8, int64(int32(mapped)), asm.Word),
	)
	code = append(code, loadBytes(12, stackAddr+12, 4)...)
	code = append(code, asm.Ja.Label("own"))
	// Neighbour discovery stays on the link.
	code = append(code, loadBytes(6, stackByte, 1).label("from6")...)
	code = append(code,
		asm.LoadMem(asm.R1, asm.RFP, stackByte, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_ICMPV6, "address6"),
	)
	code = append(code, loadBytes(40, stackByte, 1)...)
	code = append(code,
		asm.LoadMem(asm.R1, asm.RFP, stackByte, asm.Byte),
		asm.JLT.Imm(asm.R1, 133, "address6"),
		asm.JLE.Imm(asm.R1, 137, "next"),
	)
	code = append(code, loadBytes(8, stackAddr, 16).label("address6")...)
	code = append(code,
		asm.LoadMapPtr(asm.R1, r.locals.FD()).WithSymbol("own"),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackAddr),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "next"),
		asm.Mov.Imm(asm.R1, int32(r.h.link.Attrs().Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	)
	return append(code, next()...)
}

func hostToNet(v uint16) uint16 {
	var b [2]byte
	be.PutUint16(b[:], v)
	return nativeOrder.Uint16(b[:])
}

// attach puts a program on one end of an interface, in place of one of ours that is there.
func attach(nl *netlink.Handle, index int, parent uint32, prog *ebpf.Program) error {
	q := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
	if err := nl.QdiscAdd(q); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("clsact: %w", err)
	}
	return nl.FilterReplace(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: filterPref},
		Fd:          prog.FD(), Name: filterName, DirectAction: true,
	})
}

// detach removes what attach put there. The clsact qdisc stays when there are filters of others.
func detach(nl *netlink.Handle, index int, parent uint32) error {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}}
	filters, err := nl.FilterList(link, parent)
	if err != nil {
		return err
	}
	others := 0
	for _, f := range filters {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == filterName && f.Attrs().Priority == filterPref {
			if err := nl.FilterDel(f); err != nil {
				return err
			}
			continue
		}
		others++
	}
	if len(filters) == 0 || others > 0 {
		return nil
	}
	if rest, err := nl.FilterList(link, netlink.HANDLE_MIN_INGRESS); err != nil || len(rest) > 0 {
		return err
	}
	return nl.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
}

// cover has packets from and to a prefix seen at the interface of the route.
func (r *redirector) cover(c prefixChange) error {
	route, err := r.h.routeNow(c.prefix.Addr())
	if err != nil {
		return nil //nolint:nilerr // no way there now: a change of routes has it done again
	}
	link, err := r.h.linkNow(route.LinkIndex)
	if err != nil {
		return err
	}
	if link.loopback {
		return nil
	}
	var v [placeLen]byte
	nativeOrder.PutUint32(v[placeIndex:], uint32(route.LinkIndex))
	if link.ethernet {
		nativeOrder.PutUint32(v[placeLink:], etherLen)
		copy(v[placeMAC:], link.mac[:])
	}
	if c.prefix.IsSingleIP() {
		v[placeHost] = 1
		if !r.covered[route.LinkIndex] {
			if err := attach(r.h.nl, route.LinkIndex, netlink.HANDLE_MIN_EGRESS, r.leave); err != nil {
				return err
			}
			r.covered[route.LinkIndex] = true
			r.h.filter.cover(link.name)
		}
	}
	return r.places.Put(placeKey(c.prefix), v[:])
}

// learn brings the addresses of this host up to date.
func (r *redirector) learn() error {
	addrs, err := r.h.nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	now := make(map[[16]byte]bool)
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			now[ip.As16()] = true
		}
	}
	var key [16]byte
	var value [1]byte
	var gone [][16]byte
	for it := r.locals.Iterate(); it.Next(&key, &value); {
		if !now[key] {
			gone = append(gone, key)
		}
	}
	for _, k := range gone {
		_ = r.locals.Delete(k[:])
	}
	for k := range now {
		if err := r.locals.Put(k[:], value[:]); err != nil {
			return err
		}
	}
	return nil
}

func placeKey(p netip.Prefix) []byte {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	a := p.Addr().As16()
	return append(nativeOrder.AppendUint32(make([]byte, 0, keyLen), uint32(bits)), a[:]...)
}

func (r *redirector) uncover(p netip.Prefix) {
	_ = r.places.Delete(placeKey(p)) // not there is as well
}

func (r *redirector) close() error {
	var failed error
	for index := range r.covered {
		if err := detach(r.h.nl, index, netlink.HANDLE_MIN_EGRESS); err != nil && !errors.Is(err, unix.ENODEV) && !errors.Is(err, os.ErrNotExist) {
			failed = fmt.Errorf("tun: detach from interface %d: %w", index, err)
		}
	}
	r.free()
	return failed
}

func (r *redirector) free() {
	if r.enter != nil {
		_ = r.enter.Close()
	}
	if r.leave != nil {
		_ = r.leave.Close()
	}
	if r.places != nil {
		_ = r.places.Close()
	}
	if r.locals != nil {
		_ = r.locals.Close()
	}
}

// detachAll removes programs that a plane left on interfaces.
func detachAll(nl *netlink.Handle) error {
	links, err := nl.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		qdiscs, err := nl.QdiscList(l)
		if err != nil {
			continue
		}
		for _, q := range qdiscs {
			if q.Type() == "clsact" {
				if err := detach(nl, l.Attrs().Index, netlink.HANDLE_MIN_EGRESS); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
