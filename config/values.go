package config

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/protect"
)

var modes = map[string]protect.Mode{"transport": protect.Transport, "tunnel": protect.Tunnel}

var rungs = map[string]identity.Assurance{
	"encrypted": identity.Encrypted, "first-use": identity.FirstUse, "continuity": identity.Continuity,
	"address": identity.Address, "dns": identity.DNS, "verified": identity.Verified,
}

// oneOf reads a word; an absent one is otherwise.
func oneOf[T any](r *reader, key, word string, otherwise T, words map[string]T) T {
	if word == "" {
		return otherwise
	}
	v, ok := words[word]
	if !ok {
		r.fail(key, "%q is none of %s", word, strings.Join(slices.Sorted(maps.Keys(words)), ", "))
		return otherwise
	}
	return v
}

func same(words ...string) map[string]string {
	out := map[string]string{}
	for _, w := range words {
		out[w] = w
	}
	return out
}

func (r *reader) addr(key, text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
		r.fail(key, `%q is not the address of a host; write for instance "192.0.2.7" or "2001:db8::7"`, text)
		return netip.Addr{}, false
	}
	return a, true
}

func (r *reader) prefixes(key string, texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			if a, e := netip.ParseAddr(t); e == nil && a.Zone() == "" {
				p, err = netip.PrefixFrom(a, a.BitLen()), nil
			}
		}
		switch {
		case err != nil || p.Addr().Is4In6():
			r.fail(key, `%q is not a prefix; write for instance "192.0.2.0/24"`, t)
		case p != p.Masked():
			r.fail(key, "%q has bits set behind the prefix length; write %q", t, p.Masked())
		default:
			out = append(out, p)
		}
	}
	return out
}

func (r *reader) duration(key, text string, least time.Duration) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least {
		r.fail(key, `%q is not a time of at least %v; write for instance "90s", "50m" or "4h"`, text, least)
		return 0, false
	}
	return d, true
}

func (r *reader) id(key, text string) identity.ID {
	if text == "" {
		return identity.ID{}
	}
	id, err := identity.ParseID(text)
	switch {
	case err != nil:
		r.fail(key, `%v; write for instance "host.example", "user@host.example", "192.0.2.7" or "CN=host, O=Example"`, err)
	case id.Type == identity.IDDN && backwards(strings.TrimPrefix(text, "dn:")):
		r.fail(key, `%q begins with its most general part; write it the other way round, "CN=..., O=..., C=..." (RFC 4514)`, text)
	}
	return id
}

// open reads a file that the document names.
func (r *reader) open(key, name string) ([]byte, bool) {
	if r.read == nil {
		r.fail(key, "files cannot be read here")
		return nil, false
	}
	b, err := r.read(name)
	if err != nil {
		r.fail(key, "%v", err)
		return nil, false
	}
	return b, true
}
