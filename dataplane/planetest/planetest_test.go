package planetest

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/btns-ipsec/btns/dataplane"
	"github.com/btns-ipsec/btns/dataplane/flow"
)

// The reference plane does all that a plane must do.
func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Harness { return NewMemoryHarness() })
}

// aim is the case that is there to find a fault, where it matters that not only another stumbles over it.
var aim = map[string]string{
	"skips the selector check":                                       "an opened packet outside the selectors",
	"checks outer addresses in tunnel mode":                          "an inner address outside the selectors",
	"accepts replays":                                                "a replay is dropped",
	"accepts another SPI":                                            "right keys under another SPI",
	"unwraps tunnels in transport mode":                              "a tunnel packet on a transport SA",
	"delivers clear packets in Protect":                              "clear packets come in only",
	"leaks in clear on rekey":                                        "rekeying",
	"keeps sending on a retired SA":                                  "a retired pair does not send",
	"ignores hard limits":                                            "a hard limit ends a pair",
	"applies changes in another order":                               "changes apply in order",
	"keeps nothing for an SA that will send soon":                    "Upgrade keeps packets",
	"returns prefixes first, whatever follows":                       "a prefix is what the last change of a batch says",
	"moves the window before authentication":                         "a forgery is dropped",
	"keeps held packets without bound":                               "the queue of Hold",
	"goes on after a change that failed":                             "a failed change",
	"sends what the selectors exclude":                               "ports outside the selectors",
	"never removes":                                                  "a removed pair",
	"says with every packet that a pair carries":                     "protected packets are delivered",
	"ignores rules":                                                  "a rule has single protocols pass in clear, both ways, IPv4",
	"has rules for IPv4 only":                                        "a rule has single protocols pass in clear, both ways, IPv6",
	"goes by the last rule":                                          "the first rule that matches decides",
	"applies rules to what goes out only":                            "a rule has single protocols",
	"delivers out of ESP what is discarded":                          "a rule discards with any host",
	"discards with protected hosts only":                             "a rule discards with any host",
	"drops what it should keep for a host of which nothing is known": "a rule may demand protection",
	"demands nothing":                                                "a rule may demand protection",
	"keeps older rules":                                              "rules replace each other",
	"asks for one SA with a peer only":                               "a packet that no SA takes",
	"copies what it should mark":                                     "the outer header is marked",
	"takes ICMP codes for nothing":                                   "rules tell ICMP apart",
	"has no SA for ICMP errors":                                      "an ICMP error goes with",
	"has any SA for ICMP errors":                                     "an ICMP error goes with",
	"counts what passes in clear under the last rule":                "what leaves in clear is counted",
	"counts anew with every change of the rules":                     "what leaves in clear is counted",
	"never forgets what it counted":                                  "what leaves in clear is counted",
	"counts what it protects as clear":                               "what leaves in clear is counted",
}

// Each broken plane is caught, by the case that is there for it; and each case catches some.
func TestBroken(t *testing.T) {
	useful := make(map[string]bool)
	for _, f := range Broken() {
		t.Run(f.Name, func(t *testing.T) {
			var found []string
			for _, c := range Cases() {
				if wrong := c.Check(f.New()); len(wrong) > 0 {
					found = append(found, c.Name)
					useful[c.Name] = true
					t.Logf("%s: %s", c.Name, wrong[0])
				}
			}
			if len(found) == 0 {
				t.Fatal("no case finds the fault")
			}
			if want := aim[f.Name]; want != "" && !slices.ContainsFunc(found, func(n string) bool { return strings.HasPrefix(n, want) }) {
				t.Errorf("the case %q does not find it", want)
			}
		})
	}
	for _, c := range Cases() {
		if !useful[c.Name] {
			t.Errorf("no broken plane fails %q", c.Name)
		}
	}
}

// Two planes on a network talk through ESP, and the network sees it.
func TestNetwork(t *testing.T) {
	n := NewNetwork()
	var got [][]byte
	s := &scene{local: ends[0], remote: ends[1], peers: map[flow.PairID]*flow.Pair{}}
	sp := s.spec(1)
	other := sp
	other.SPIIn, other.SPIOut, other.KeysIn, other.KeysOut = sp.SPIOut, sp.SPIIn, sp.KeysOut, sp.KeysIn
	other.Local, other.Remote, other.OuterLocal, other.OuterRemote = sp.Remote, sp.Local, sp.OuterRemote, sp.OuterLocal
	a := n.Join(Config{Addrs: []netip.Addr{ends[0]}})
	b := n.Join(Config{Addrs: []netip.Addr{ends[1]}, Deliver: func(p []byte) { got = append(got, p) }})
	if err := a.Apply([]dataplane.Change{dataplane.AddSA{Spec: sp, Use: true}, s.state(flow.Protect)}); err != nil {
		t.Fatal(err)
	}
	if err := b.Apply([]dataplane.Change{dataplane.AddSA{Spec: other}}); err != nil {
		t.Fatal(err)
	}
	a.FromApp(s.out(1))
	n.Filter(func(Wired) bool { return false })
	a.FromApp(s.out(2))
	if s.same("at b", got, s.out(1)); len(s.wrong) > 0 {
		t.Error(s.wrong)
	}
	if log := n.Log(); len(log) != 2 || log[0].Kind != ESP || log[1].Kind != ESP {
		t.Errorf("the network saw %+v", log)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Apply(nil); err == nil {
		t.Error("a closed plane takes changes")
	}
}
