package sim

import "github.com/btns-ipsec/btns/host"

// What may be claimed of a world.

// Protected reports whether n sends to o under an SA.
func (n *Node) Protected(o *Node) bool {
	if !n.running() {
		return false
	}
	v, ok := n.view(o)
	return ok && v.State == host.StateProtected
}

func (n *Node) view(o *Node) (host.PeerView, bool) {
	for _, v := range n.host.Peers(n.w.now) {
		if v.Addr == o.Addr {
			return v, true
		}
	}
	return host.PeerView{}, false
}

// Pairs is how many SA pairs n has with o.
func (n *Node) Pairs(o *Node) int {
	v, ok := n.view(o)
	if !ok {
		return 0
	}
	return len(v.Children)
}

// CheckOnePair fails the world unless a and b have exactly one SA pair with each other, and it is the same one.
func (w *World) CheckOnePair(a, b *Node) {
	w.t.Helper()
	va, _ := a.view(b)
	vb, _ := b.view(a)
	switch {
	case len(va.Children) != 1 || len(vb.Children) != 1:
		w.Fail("%s has %d SA pairs with %s, which has %d with it; want 1 and 1", a.Name, len(va.Children), b.Name, len(vb.Children))
	case va.Children[0].SPIIn != vb.Children[0].SPIOut || va.Children[0].SPIOut != vb.Children[0].SPIIn:
		w.Fail("%s and %s do not have the same SA pair: %08x/%08x and %08x/%08x", a.Name, b.Name,
			va.Children[0].SPIIn, va.Children[0].SPIOut, vb.Children[0].SPIIn, vb.Children[0].SPIOut)
	case !va.Children[0].Sending || !vb.Children[0].Sending:
		w.Fail("the SA pair of %s and %s does not send on both sides", a.Name, b.Name)
	}
}

// CheckNoPromises fails the world when an SPI is kept for a child that will never come.
func (w *World) CheckNoPromises(nodes ...*Node) {
	w.t.Helper()
	for _, n := range nodes {
		if s := n.host.Status(w.now); s.Promised != 0 {
			w.Fail("%s keeps %d SPIs for children that never came", n.Name, s.Promised)
		}
	}
}

// CheckWorks fails the world unless a packet each way arrives protected.
func (w *World) CheckWorks(a, b *Node) {
	w.t.Helper()
	before := [2]int{a.tally(b.Addr).Protected, b.tally(a.Addr).Protected}
	link := w.link
	w.link = Link{Delay: link.Delay}
	a.Send(b)
	b.Send(a)
	w.Run(2*link.Delay + link.Jitter)
	w.link = link
	if a.tally(b.Addr).Protected == before[0] || b.tally(a.Addr).Protected == before[1] {
		w.Fail("packets between %s and %s do not arrive protected", a.Name, b.Name)
	}
}
