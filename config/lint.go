package config

import (
	"fmt"
	"strings"

	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/selector"
)

// Lint is what has a meaning that an operator should know of, beyond Warnings: which are mistakes in all likelihood, and
// logged at each start (BTNS-APP-58).
func (c *Config) Lint() []string {
	var out []string
	for i := range c.Policy.SPD() {
		out = append(out, c.lint(&c.Policy.SPD()[i])...)
	}
	return out
}

func (c *Config) lint(e *policy.Entry) (out []string) {
	written := e.Source != "" && e.Peer == ""
	say := func(format string, args ...any) {
		out = append(out, fmt.Sprintf("SPD entry %q%s ", e.Name, place(e))+fmt.Sprintf(format, args...))
	}
	if e.Action != policy.Protect {
		return out
	}
	if written && e.BtnsOK && broad(e.Remote) && broad(e.Local) {
		say("has btns_ok and any address: every host with a key may use it")
	}
	if e.NullOK && e.Peer == "" {
		if known := c.known(e.Remote); len(known) > 0 {
			say("has null_ok and addresses of known peers (%s): a host without a key is never one of them", strings.Join(known, ", "))
		}
	}
	if e.Fallback != policy.Require {
		say(`falls back to clear (fallback = "%v"): hosts that cannot protect are spoken to in clear, and so are those whose IKE somebody blocks at first contact`, e.Fallback)
	}
	return out
}

// known is the peers with addresses in s that the PAD tells by more than any key.
func (c *Config) known(s selector.Set) (names []string) {
	for i := range c.Policy.PAD() {
		if p := &c.Policy.PAD()[i]; (p.Kind == policy.ByID || p.Kind == policy.ByKey) && p.Constraint.Overlaps(s) {
			names = append(names, p.Name)
		}
	}
	return names
}

func place(e *policy.Entry) string {
	if e.Source == "" {
		return ""
	}
	return " (" + e.Source + ")"
}

func broad(s selector.Set) bool {
	for _, x := range s {
		if whole := (selector.Set{x}); whole.Covers(selector.Set{selector.Any4()}) || whole.Covers(selector.Set{selector.Any6()}) {
			return true
		}
	}
	return false
}
