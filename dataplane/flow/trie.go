package flow

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// trie is an immutable map: a change copies the nodes on one path and shares the rest. It takes five bits of the key at a
// time, lowest first, where SPIs are random and IDs and addresses count.
type trie[V any] struct {
	root *node[V]
	size int
}

// key is a number of 128 bits.
type key struct{ lo, hi uint64 }

func number(n uint64) key { return key{lo: n} }

// address is the key of an address among those of its family. Hosts whose IPv6 addresses end alike are spread by what these
// begin with.
func address(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return number(uint64(binary.BigEndian.Uint32(b[:])))
	}
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	return key{lo: lo ^ spread(hi), hi: hi}
}

// address is that of which k is the key, of IPv4 (0) or IPv6 (1).
func (k key) address(family int) netip.Addr {
	if family == 0 {
		return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(k.lo))))
	}
	b := binary.BigEndian.AppendUint64(nil, k.hi)
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(b, k.lo^spread(k.hi))))
}

func spread(hi uint64) uint64 { return bits.RotateLeft64(hi*0x9e3779b97f4a7c15, 32) }

// owner is who may change a node in place: the builder that made it, as long as no table has it. It has a size, so that no
// two are one.
type owner struct{ _ byte }

type node[V any] struct {
	used uint32 // which of the slots are taken
	kids []kid[V]
	by   *owner
}

// kid is a value, or a node when sub is set.
type kid[V any] struct {
	key key
	sub *node[V]
	val V
}

const stride = 5

func (k key) slot(shift uint) uint32 {
	return 1 << ((k.lo>>shift | k.hi<<(64-shift) | k.hi>>(shift-64)) & (1<<stride - 1))
}

func (n *node[V]) index(bit uint32) int { return bits.OnesCount32(n.used & (bit - 1)) }

func (t trie[V]) get(k key) (v V, ok bool) {
	if p := t.find(k); p != nil {
		return *p, true
	}
	return v, false
}

// find is where the value of k is, or nil. It is not to be changed, and good until a builder changes what it owns.
func (t trie[V]) find(k key) *V {
	for n, shift := t.root, uint(0); n != nil; shift += stride {
		bit := k.slot(shift)
		if n.used&bit == 0 {
			return nil
		}
		c := &n.kids[n.index(bit)]
		if c.sub == nil {
			if c.key != k {
				return nil
			}
			return &c.val
		}
		n = c.sub
	}
	return nil
}

// put is t with a value. Nodes of by are changed and not copied: the tries they are part of are given up.
func (t trie[V]) put(k key, v V, by *owner) trie[V] {
	root, added := t.root.put(kid[V]{key: k, val: v}, 0, by)
	if added {
		t.size++
	}
	t.root = root
	return t
}

// owned is n or a copy of it that by may change, with room for so many kids more.
func (n *node[V]) owned(by *owner, more int) *node[V] {
	if by != nil && n.by == by {
		return n
	}
	return &node[V]{used: n.used, by: by, kids: append(make([]kid[V], 0, len(n.kids)+more), n.kids...)}
}

func (n *node[V]) put(leaf kid[V], shift uint, by *owner) (_ *node[V], added bool) {
	bit := leaf.key.slot(shift)
	if n == nil {
		return &node[V]{used: bit, kids: []kid[V]{leaf}, by: by}, true
	}
	i := n.index(bit)
	if n.used&bit == 0 {
		n = n.owned(by, 1)
		n.used |= bit
		n.kids = slices.Insert(n.kids, i, leaf)
		return n, true
	}
	n = n.owned(by, 0)
	switch k := &n.kids[i]; {
	case k.sub != nil:
		k.sub, added = k.sub.put(leaf, shift+stride, by)
	case k.key == leaf.key:
		*k = leaf
	default: // two keys in one slot: both go one level down
		sub, _ := (*node[V])(nil).put(*k, shift+stride, by)
		sub, added = sub.put(leaf, shift+stride, by)
		*k = kid[V]{sub: sub}
	}
	return n, added
}

func (t trie[V]) delete(k key) trie[V] {
	if _, ok := t.get(k); ok {
		t.root, t.size = t.root.delete(k, 0), t.size-1
	}
	return t
}

// delete returns n without key, which it has; nil when nothing remains.
func (n *node[V]) delete(k key, shift uint) *node[V] {
	bit := k.slot(shift)
	i := n.index(bit)
	var sub *node[V]
	if c := n.kids[i]; c.sub != nil {
		sub = c.sub.delete(k, shift+stride)
	}
	if sub == nil {
		if len(n.kids) == 1 {
			return nil
		}
		c := &node[V]{used: n.used &^ bit, kids: make([]kid[V], 0, len(n.kids)-1)}
		c.kids = append(append(c.kids, n.kids[:i]...), n.kids[i+1:]...)
		return c
	}
	c := n.owned(nil, 0)
	if len(sub.kids) == 1 && sub.kids[0].sub == nil {
		c.kids[i] = sub.kids[0]
	} else {
		c.kids[i].sub = sub
	}
	return c
}

// each calls f for every key and value until it returns false.
func (t trie[V]) each(f func(key, V) bool) { t.root.each(f) }

func (n *node[V]) each(f func(key, V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.kids {
		if k := &n.kids[i]; k.sub != nil && !k.sub.each(f) || k.sub == nil && !f(k.key, k.val) {
			return false
		}
	}
	return true
}
