//go:build linux

package tun

import (
	"net/netip"
	"sync"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// What waits for an SA is bounded by prefix and in all: it is a courtesy to the first packets (RFC 4301 §5.1, 3a).
const (
	heldPackets  = 16
	heldOctets   = 1 << 16
	heldPrefixes = 256
	heldTime     = 10 * perSecond // then whoever sent it has sent it again, or has given up
)

// held is what waits for SAs, whole frames with their vnet headers.
type held struct {
	mu sync.Mutex
	by map[netip.Prefix]*heldQueue
}

type heldQueue struct {
	frames [][]byte
	octets int
	since  int64
}

// hold keeps a frame until there is an SA, and asks for one.
func (p *Plane) hold(table *flow.Table, f flowKey, frame []byte, now int64) {
	_, prefix, ok := table.State(f.Remote)
	if !ok { // a rule demands protection of a host of which nothing is known
		prefix = netip.PrefixFrom(f.Remote, f.Remote.BitLen())
	}
	if !p.held.put(prefix, frame, now) {
		p.drops.add(now, f.Remote, flow.QueueFull, f)
	}
	if p.asked.allow(f.Remote, now) {
		p.event(dataplane.Acquire{Flow: f, Held: true})
	}
}

func (h *held) put(prefix netip.Prefix, frame []byte, now int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.by[prefix]
	if q == nil {
		if len(h.by) >= heldPrefixes {
			return false
		}
		if h.by == nil {
			h.by = make(map[netip.Prefix]*heldQueue)
		}
		q = &heldQueue{since: now}
		h.by[prefix] = q
	}
	if now-q.since > heldTime {
		*q = heldQueue{since: now}
	}
	if len(q.frames) >= heldPackets || q.octets+len(frame) > heldOctets {
		return false
	}
	q.frames = append(q.frames, append([]byte(nil), frame...))
	q.octets += len(frame)
	return true
}

// release gives up what waits no longer under table.
func (h *held) release(table *flow.Table, now int64) (frames [][]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for prefix, q := range h.by {
		f, _, err := flow.ParseFlow(q.frames[0][vnetLen:], true)
		if err == nil && table.Out(&f).Action == flow.Queue {
			continue
		}
		if now-q.since <= heldTime {
			frames = append(frames, q.frames...)
		}
		delete(h.by, prefix)
	}
	return frames
}

// release sends what waited for the changes that table has.
func (o *outbound) release(table *flow.Table, now int64) {
	frames := o.p.held.release(table, now)
	if len(frames) == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = now
	for _, frame := range frames {
		b := make([]byte, headroom+len(frame)+tailroom)
		end := headroom + copy(b[headroom:], frame)
		o.packet(table, b, headroom+vnetLen, end, readVnet(b[headroom:]), false)
	}
	o.flush()
}
