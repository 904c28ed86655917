package probe

import (
	"net/netip"
	"time"
)

// table remembers results by address, the least recently changed first. It holds no pointers, so that many addresses are
// no work for the garbage collector, and times as offsets from the first one that it was told.
type table struct {
	epoch time.Time
	at    map[[16]byte]int32 // where in slots
	slots []slot
	free  int32 // first of the free slots, chained by next; 0: none
	max   int
}

// slot is one address. Slot 0 is the head of the ring: next is the oldest, prev the newest.
type slot struct {
	addr       [16]byte
	at, until  time.Duration
	prev, next int32
	notify     uint16
	tries      uint16
	result     Result
}

func newTable(limit int) table {
	return table{at: map[[16]byte]int32{}, slots: make([]slot, 1), max: limit}
}

func (t *table) offset(now time.Time) time.Duration {
	if t.epoch.IsZero() {
		t.epoch = now
	}
	return now.Sub(t.epoch)
}

func (t *table) get(addr netip.Addr) Status {
	i := t.at[addr.As16()]
	if i == 0 {
		return Status{}
	}
	s := &t.slots[i]
	st := Status{Result: s.result, Notify: s.notify, Tries: int(s.tries), At: t.epoch.Add(s.at)}
	if s.until != 0 {
		st.Until = t.epoch.Add(s.until)
	}
	return st
}

// put remembers s as what changed last; when there is no room, the address that changed longest ago is forgotten.
func (t *table) put(addr netip.Addr, s Status) {
	key := addr.As16()
	i := t.at[key]
	if i == 0 {
		i = t.take()
		t.at[key] = i
	} else {
		t.unlink(i)
	}
	n := slot{addr: key, at: t.offset(s.At), notify: s.Notify, tries: uint16(min(s.Tries, 1<<16-1)), result: s.Result}
	if !s.Until.IsZero() {
		n.until = t.offset(s.Until)
	}
	t.slots[i] = n
	t.link(i)
}

func (t *table) take() int32 {
	if len(t.at) >= t.max {
		t.remove(t.slots[0].next)
	}
	if i := t.free; i != 0 {
		t.free = t.slots[i].next
		return i
	}
	t.slots = append(t.slots, slot{})
	return int32(len(t.slots) - 1)
}

func (t *table) forget(addr netip.Addr) {
	if i := t.at[addr.As16()]; i != 0 {
		t.remove(i)
	}
}

func (t *table) remove(i int32) {
	delete(t.at, t.slots[i].addr)
	t.unlink(i)
	t.slots[i].next, t.free = t.free, i
}

func (t *table) link(i int32) {
	last := t.slots[0].prev
	t.slots[i].prev, t.slots[i].next = last, 0
	t.slots[last].next, t.slots[0].prev = i, i
}

func (t *table) unlink(i int32) {
	s := &t.slots[i]
	t.slots[s.prev].next, t.slots[s.next].prev = s.next, s.prev
}
