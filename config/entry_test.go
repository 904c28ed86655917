package config

import (
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
)

// The keys of an SPD entry say what they say.
func TestEntries(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		check      func(policy.Entry) bool
	}{
		{"words for both directions", "outbound = \"prefer\"\ninbound = \"require\"", func(e policy.Entry) bool {
			return e.Action == policy.Protect && e.Word(policy.Out) == policy.WordPrefer && e.Word(policy.In) == policy.WordRequire && e.Waiting == policy.Pass
		}},
		{"accept is never to begin", `outbound = "accept"`, func(e policy.Entry) bool { return e.Fallback == policy.Never && e.Inbound == "" }},
		{"clear is bypass", "outbound = \"clear\"\ninbound = \"clear\"", func(e policy.Entry) bool { return e.Action == policy.Bypass }},
		{"strict only for what goes out", "action = \"protect\"\ninbound = \"accept\"", func(e policy.Entry) bool {
			return e.Word(policy.Out) == policy.WordRequire && e.Word(policy.In) == policy.WordAccept
		}},
		{"an SA for each flow", "action = \"protect\"\npopulate_from_packet = true", func(e policy.Entry) bool { return e.PFP == policy.PFPAll }},
		{"one for all", "action = \"protect\"\npopulate_from_packet = false", func(e policy.Entry) bool { return e.PFP == 0 }},
		{"an SA for each remote port", "action = \"protect\"\npopulate_from_packet = [\"remote-port\", \"protocol\"]", func(e policy.Entry) bool {
			return e.PFP == policy.PFPRemotePort|policy.PFPProto
		}},
		{"marks are copied", "action = \"protect\"\ndscp = \"copy\"\necn = \"copy\"", func(e policy.Entry) bool { return e.Marks == protect.Marks{} }},
		{"marks are set", "action = \"protect\"\ndscp = 0\necn = \"clear\"", func(e policy.Entry) bool {
			return e.Marks == protect.Marks{SetDSCP: true, ClearECN: true}
		}},
	} {
		c, err := Parse("btns.toml", []byte("[[policy]]\nname = \"e\"\n"+tc.text+"\n"), nil)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		for _, e := range c.Policy.SPD() {
			if e.Name == "e" && (!tc.check(e) || e.Source != "btns.toml:1") {
				t.Errorf("%s: %+v", tc.name, e)
			}
		}
	}
	c, err := Parse("btns.toml", []byte("[default]\noutbound = \"accept\"\ninbound = \"require\"\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	spd := c.Policy.SPD()
	if e := spd[len(spd)-1]; e.Fallback != policy.Never || e.Inbound != policy.WordRequire {
		t.Errorf("default: %+v", e)
	}
}

// What is wrong with an entry is said with its line and column.
func TestBadEntries(t *testing.T) {
	for text, want := range map[string]string{
		"outbound = \"clear\"":                                      `btns.toml:1:3: policy[0].action: traffic is in clear in both directions or in none`,
		"action = \"protect\"\ninbound = \"clear\"":                 `btns.toml:2:1: policy[0].action: traffic is in clear`,
		"outbound = \"loud\"":                                       `btns.toml:2:1: policy[0].outbound: "loud" is none of accept, prefer, require`,
		"outbound = \"prefer\"\nfallback = \"prefer\"":              `btns.toml:2:1: policy[0].outbound: it says the same as fallback`,
		"action = \"bypass\"\ninbound = \"require\"":                `btns.toml:3:1: policy[0].inbound: it is for action "protect" only`,
		"action = \"bypass\"\ndscp = 3":                             `btns.toml:3:1: policy[0].dscp: it is for action "protect" only`,
		"action = \"protect\"\ndscp = 64":                           `btns.toml:3:1: policy[0].dscp: 64 is no code point`,
		"action = \"protect\"\ndscp = \"ef\"":                       `btns.toml:3:1: policy[0].dscp: ef is no code point`,
		"action = \"protect\"\necn = \"set\"":                       `btns.toml:3:1: policy[0].ecn: "set" is none of clear, copy`,
		"action = \"protect\"\npopulate_from_packet = [\"port\"]":   `btns.toml:3:1: policy[0].populate_from_packet: port is no selector`,
		"action = \"protect\"\npopulate_from_packet = \"anything\"": `btns.toml:3:1: policy[0].populate_from_packet: anything says nothing`,
		"name = \"e\"": `btns.toml:1:3: policy[0].action: it is missing`,
	} {
		_, err := Parse("btns.toml", []byte("[[policy]]\n"+text+"\n"), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Parse("btns.toml", []byte("[default]\noutbound = \"clear\"\n"), nil); err == nil || !strings.Contains(err.Error(), "btns.toml:2:1: default.outbound") {
		t.Errorf("default in clear: %v", err)
	}
}
