package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
)

// entry reads one [[policy]].
func (r *reader) entry(key string, f *filePolicy, peers map[string]bool) policy.Entry {
	e := policy.Entry{
		Name: f.Name, Source: r.source(key),
		Local: r.selectors(key+".local", f.Local), Remote: r.selectors(key+".remote", f.Remote),
		Action: r.action(key, f),
	}
	if f.Name == "" {
		e.Name = key
	}
	if e.Action != policy.Protect {
		r.onlyProtect(key, f)
		return e
	}
	e.Mode = oneOf(r, key+".mode", f.Mode, protect.Transport, modes)
	e.Peer, e.BtnsOK, e.NullOK, e.BtnsFallthrough = f.Peer, f.BtnsOK, f.NullOK, f.BtnsFallthrough
	if e.Peer != "" && !peers[e.Peer] {
		r.fail(key+".peer", "there is no [[peer]] called %q", e.Peer)
	}
	e.MinAssurance = oneOf(r, key+".min_assurance", f.MinAssurance, 0, rungs)
	e.Fallback = r.outbound(key, f.Fallback, f.Outbound, policy.Require)
	e.Inbound = r.inbound(key, f.Inbound)
	e.Waiting = r.waiting(key+".waiting", f.Waiting, e.Fallback)
	e.PFP, e.Marks = r.populate(key+".populate_from_packet", f.PFP), r.marks(key, f.DSCP, f.ECN)
	e.Offer, e.KE = r.esp(key+".esp", f.ESP)
	e.Lifetime = r.lifetime(key, f.Rekey, f.Lifetime, policy.DefaultLifetime())
	return e
}

// action reads what an entry does, which the words for both directions say as well.
func (r *reader) action(key string, f *filePolicy) policy.Action {
	clear := f.Outbound == "clear" || f.Inbound == "clear"
	switch {
	case f.Action == "" && clear && f.Outbound == f.Inbound:
		return policy.Bypass
	case f.Action != "bypass" && clear:
		r.fail(key+".action", `traffic is in clear in both directions or in none; write "bypass", or "accept" for the direction that may be protected`)
	case f.Action == "" && f.Outbound+f.Inbound != "":
		return policy.Protect
	case f.Action == "":
		r.fail(key+".action", `it is missing; write "bypass", "discard" or "protect"`)
	}
	return oneOf(r, key+".action", f.Action, 0, map[string]policy.Action{
		"bypass": policy.Bypass, "discard": policy.Discard, "protect": policy.Protect,
	})
}

func (r *reader) onlyProtect(key string, f *filePolicy) {
	for name, given := range map[string]bool{
		"mode": f.Mode != "", "peer": f.Peer != "", "btns_ok": f.BtnsOK, "null_ok": f.NullOK,
		"btns_fallthrough": f.BtnsFallthrough, "min_assurance": f.MinAssurance != "", "fallback": f.Fallback != "",
		"outbound": f.Outbound != "" && f.Outbound != "clear", "inbound": f.Inbound != "" && f.Inbound != "clear",
		"waiting": f.Waiting != "", "populate_from_packet": f.PFP != nil, "dscp": f.DSCP != nil, "ecn": f.ECN != "",
		"esp": f.ESP != nil, "rekey": f.Rekey != "", "lifetime": f.Lifetime != "",
	} {
		if given {
			r.fail(key+"."+name, `it is for action "protect" only; remove it`)
		}
	}
}

// outbound reads what becomes of outbound traffic when the peer cannot protect it: fallback, or the word for that
// direction.
func (r *reader) outbound(table, fallback, word string, otherwise policy.Fallback) policy.Fallback {
	if word == "" {
		return oneOf(r, table+".fallback", fallback, otherwise, map[string]policy.Fallback{
			"require": policy.Require, "prefer": policy.Prefer, "never": policy.Never,
		})
	}
	if fallback != "" {
		r.fail(table+".outbound", "it says the same as fallback; remove one")
	}
	if word == "clear" { // action has told why, where there is one
		if table == "default" {
			r.fail(table+".outbound", `%q is for [[policy]]; here write "accept": the peer has to begin`, word)
		}
		return otherwise
	}
	return oneOf(r, table+".outbound", word, otherwise, map[string]policy.Fallback{
		"require": policy.Require, "prefer": policy.Prefer, "accept": policy.Never,
	})
}

func (r *reader) inbound(table, word string) policy.Word {
	if word == "clear" && table != "default" { // action has told why
		return ""
	}
	return oneOf(r, table+".inbound", word, "", map[string]policy.Word{
		"require": policy.WordRequire, "prefer": policy.WordPrefer, "accept": policy.WordAccept,
	})
}

// waiting is, when nothing is written, what goes with the fallback: nothing passes that must be protected.
func (r *reader) waiting(key, text string, f policy.Fallback) policy.Waiting {
	if text == "" && f != policy.Require {
		return policy.Pass
	}
	w := oneOf(r, key, text, policy.Hold, map[string]policy.Waiting{"hold": policy.Hold, "pass": policy.Pass})
	if w == policy.Pass && f == policy.Require {
		r.fail(key, `what fallback "require" protects cannot pass in clear; write "hold"`)
	}
	return w
}

var pfpWords = map[string]policy.PFP{
	"local-address": policy.PFPLocalAddr, "remote-address": policy.PFPRemoteAddr, "protocol": policy.PFPProto,
	"local-port": policy.PFPLocalPort, "remote-port": policy.PFPRemotePort,
}

// populate reads which selectors are taken from the packet: all, none, or a list.
func (r *reader) populate(key string, v any) policy.PFP {
	hint := "write true, or a list of " + strings.Join(slices.Sorted(maps.Keys(pfpWords)), ", ")
	switch v := v.(type) {
	case nil:
		return 0
	case bool:
		if v {
			return policy.PFPAll
		}
		return 0
	case []any:
		var out policy.PFP
		for _, x := range v {
			word, _ := x.(string)
			if pfpWords[word] == 0 {
				r.fail(key, "%v is no selector; %s", x, hint)
			}
			out |= pfpWords[word]
		}
		return out
	}
	r.fail(key, "%v says nothing; %s", v, hint)
	return 0
}

// marks reads what the outer header shows of DSCP and ECN.
func (r *reader) marks(table string, dscp any, ecn string) protect.Marks {
	m := protect.Marks{ClearECN: oneOf(r, table+".ecn", ecn, false, map[string]bool{"copy": false, "clear": true})}
	switch v := dscp.(type) {
	case nil:
		return m
	case int64:
		if v >= 0 && v <= protect.MaxDSCP {
			m.SetDSCP, m.DSCP = true, uint8(v)
			return m
		}
	case string:
		if v == "copy" {
			return m
		}
	}
	r.fail(table+".dscp", `%v is no code point; write "copy" or a number from 0 to %d`, dscp, protect.MaxDSCP)
	return m
}
