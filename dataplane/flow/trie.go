package flow

import "math/bits"

// trie is an immutable map from numbers: a change copies the nodes on one path and shares the rest. It takes six bits of
// the key at a time, lowest first, where SPIs are random and IDs count.
type trie[V any] struct {
	root *node[V]
	size int
}

type node[V any] struct {
	used uint64 // which of 64 slots are taken
	kids []kid[V]
}

// kid is a value, or a node when sub is set.
type kid[V any] struct {
	key uint64
	sub *node[V]
	val V
}

const stride = 6

func slot(key uint64, shift uint) uint64 { return 1 << (key >> shift & (1<<stride - 1)) }

func (n *node[V]) index(bit uint64) int { return bits.OnesCount64(n.used & (bit - 1)) }

func (t trie[V]) get(key uint64) (v V, ok bool) {
	for n, shift := t.root, uint(0); n != nil; shift += stride {
		bit := slot(key, shift)
		if n.used&bit == 0 {
			return v, false
		}
		k := &n.kids[n.index(bit)]
		if k.sub == nil {
			if k.key != key {
				return v, false
			}
			return k.val, true
		}
		n = k.sub
	}
	return v, false
}

func (t trie[V]) put(key uint64, v V) trie[V] {
	root, added := t.root.put(kid[V]{key: key, val: v}, 0)
	if added {
		t.size++
	}
	t.root = root
	return t
}

func (n *node[V]) put(leaf kid[V], shift uint) (_ *node[V], added bool) {
	bit := slot(leaf.key, shift)
	if n == nil {
		return &node[V]{used: bit, kids: []kid[V]{leaf}}, true
	}
	i := n.index(bit)
	if n.used&bit == 0 {
		c := &node[V]{used: n.used | bit, kids: make([]kid[V], len(n.kids)+1)}
		copy(c.kids, n.kids[:i])
		c.kids[i] = leaf
		copy(c.kids[i+1:], n.kids[i:])
		return c, true
	}
	c := &node[V]{used: n.used, kids: append([]kid[V](nil), n.kids...)}
	switch k := &c.kids[i]; {
	case k.sub != nil:
		k.sub, added = k.sub.put(leaf, shift+stride)
	case k.key == leaf.key:
		*k = leaf
	default: // two keys in one slot: both go one level down
		sub, _ := (*node[V])(nil).put(*k, shift+stride)
		sub, added = sub.put(leaf, shift+stride)
		*k = kid[V]{sub: sub}
	}
	return c, added
}

func (t trie[V]) delete(key uint64) trie[V] {
	if _, ok := t.get(key); ok {
		t.root, t.size = t.root.delete(key, 0), t.size-1
	}
	return t
}

// delete returns n without key, which it has; nil when nothing remains.
func (n *node[V]) delete(key uint64, shift uint) *node[V] {
	bit := slot(key, shift)
	i := n.index(bit)
	var sub *node[V]
	if k := n.kids[i]; k.sub != nil {
		sub = k.sub.delete(key, shift+stride)
	}
	if sub == nil {
		if len(n.kids) == 1 {
			return nil
		}
		c := &node[V]{used: n.used &^ bit, kids: make([]kid[V], 0, len(n.kids)-1)}
		c.kids = append(append(c.kids, n.kids[:i]...), n.kids[i+1:]...)
		return c
	}
	c := &node[V]{used: n.used, kids: append([]kid[V](nil), n.kids...)}
	if len(sub.kids) == 1 && sub.kids[0].sub == nil {
		c.kids[i] = sub.kids[0]
	} else {
		c.kids[i].sub = sub
	}
	return c
}

// all calls f for every value until it returns false.
func (t trie[V]) all(f func(V) bool) { t.root.all(f) }

func (n *node[V]) all(f func(V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.kids {
		if k := &n.kids[i]; k.sub != nil && !k.sub.all(f) || k.sub == nil && !f(k.val) {
			return false
		}
	}
	return true
}
