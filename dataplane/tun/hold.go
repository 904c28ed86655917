//go:build linux

package tun

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// What waits for an SA is bounded by prefix and in all: it is a courtesy to the first packets (RFC 4301 §5.1, 3a).
const (
	heldPackets  = 16
	heldOctets   = 1 << 17 // more than any one frame has
	heldPrefixes = 256
	heldTime     = 10 * perSecond // then whoever sent it has sent it again, or has given up
)

// held is what waits for SAs, whole frames with their vnet headers.
type held struct {
	mu sync.Mutex
	by map[netip.Prefix]*heldQueue
}

// heldQueue has at least one frame.
type heldQueue struct {
	frames []heldFrame
	octets int
	since  int64
}

type heldFrame struct {
	data  []byte
	whole bool // as outbound.packet was told
}

// hold keeps a frame until there is an SA, and asks for one.
func (p *Plane) hold(table *flow.Table, f flowKey, frame heldFrame, now int64) {
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

// put keeps a copy of a frame, if there is room.
func (h *held) put(prefix netip.Prefix, frame heldFrame, now int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.by[prefix]
	if q != nil && now-q.since > heldTime {
		delete(h.by, prefix)
		q = nil
	}
	if q == nil {
		if len(h.by) >= heldPrefixes {
			h.expire(now)
		}
		if len(h.by) >= heldPrefixes {
			return false
		}
		q = &heldQueue{since: now}
	}
	if len(q.frames) >= heldPackets || q.octets+len(frame.data) > heldOctets {
		return false
	}
	frame.data = slices.Clone(frame.data)
	q.frames = append(q.frames, frame)
	q.octets += len(frame.data)
	if h.by == nil {
		h.by = make(map[netip.Prefix]*heldQueue)
	}
	h.by[prefix] = q
	return true
}

// expire gives up what has waited too long.
func (h *held) expire(now int64) {
	maps.DeleteFunc(h.by, func(_ netip.Prefix, q *heldQueue) bool { return now-q.since > heldTime })
}

// release gives up what waits no longer under table.
func (h *held) release(table *flow.Table, now int64) (frames []heldFrame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expire(now)
	for prefix, q := range h.by {
		f, _, err := flow.ParseFlow(q.frames[0].data[vnetLen:], true)
		if err == nil && table.Out(&f).Action == flow.Queue {
			continue
		}
		frames = append(frames, q.frames...)
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
		b := make([]byte, headroom+len(frame.data)+tailroom)
		end := headroom + copy(b[headroom:], frame.data)
		o.packet(table, b, headroom+vnetLen, end, readVnet(b[headroom:]), frame.whole)
	}
	o.flush()
}
