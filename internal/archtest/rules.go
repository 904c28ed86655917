package archtest

// Module is the path that the tables below leave out.
const Module = "github.com/btns-ipsec/btns"

// Rules is everything that Check holds a tree against.
type Rules struct {
	// Layers says what each package may import of ours. A package that is missing here fails the check: whoever adds
	// one says where it belongs.
	Layers map[string]Layer
	// Only says which of our packages may import a foreign one; the key is a module path or a prefix of packages.
	Only map[string][]string
	// BannedNames are package names that say nothing.
	BannedNames []string
	// Limits.
	FileLines, FuncLines, StructFields int
}

// Layer is one package's place in the picture.
type Layer struct {
	Pure    bool     // see banned.go for what that forbids
	Test    bool     // holds tests or helpers of tests; its files may be as long as a table needs
	Imports []string // of ours, without the module path
	Allow   []string // of the imports that purity forbids, with the reason beside the row
}

// What several rows need.
var (
	vocabulary = []string{"identity", "selector", "protect"}
	compute    = []string{"ikev2/wire", "ikev2/suite", "ikev2/chain", "esp"}
	deciders   = []string{"ikev2", "policy", "sad", "trust", "probe", "dataplane/flow"}
	below      = join(deciders, compute, vocabulary, []string{"dataplane", "host"})
)

// House are the rules of this repository. Arrows point down only; a row is added with the package.
var House = Rules{
	Layers: map[string]Layer{
		// Vocabulary.
		"identity": {Pure: true},
		"selector": {Pure: true},
		"protect":  {Pure: true},

		// Compute.
		"ikev2/wire":  {Pure: true, Imports: vocabulary},
		"ikev2/suite": {Pure: true, Imports: join(vocabulary, []string{"ikev2/wire"})},
		"ikev2/chain": {Pure: true, Imports: vocabulary},
		"esp":         {Pure: true, Imports: vocabulary},

		// Decide: none of these knows another.
		"ikev2":  {Pure: true, Imports: join(vocabulary, []string{"ikev2/wire", "ikev2/suite", "ikev2/chain"})},
		"policy": {Pure: true, Imports: vocabulary},
		"sad":    {Pure: true, Imports: vocabulary},
		"trust":  {Pure: true, Imports: vocabulary},
		"probe":  {Pure: true, Imports: vocabulary},
		// Counters of a pair are read while its packets pass.
		"dataplane/flow": {Pure: true, Imports: join(vocabulary, []string{"esp"}), Allow: []string{"sync/atomic"}},

		// Join the deciders; the contract of a plane.
		"dataplane": {Pure: true, Imports: join(vocabulary, []string{"esp", "dataplane/flow"})},
		"host":      {Pure: true, Imports: join(deciders, compute, vocabulary, []string{"dataplane"})},

		// Touch the world.
		"dataplane/tun":   {Imports: join(vocabulary, []string{"dataplane", "dataplane/flow", "dataplane/xfrm", "esp"})},
		"dataplane/xfrm":  {Imports: join(vocabulary, []string{"dataplane", "dataplane/flow", "esp"})},
		"trust/boltstore": {Imports: join(vocabulary, []string{"trust"})},
		"engine": {Imports: join(below, []string{
			"config", "control", "dataplane/tun", "dataplane/xfrm", "trust/boltstore",
		})},

		// Faces.
		"control":  {Imports: join(vocabulary, []string{"dataplane", "host", "policy", "trust"})},
		"config":   {Imports: join(vocabulary, []string{"policy", "ikev2", "ikev2/suite", "ikev2/chain", "host", "probe", "trust"})},
		"cmd/btns": {Imports: join(vocabulary, []string{"engine", "control", "config", "host", "policy", "probe", "dataplane", "trust"})},

		// Tests and what they stand on.
		"sim":                   {Test: true, Imports: below},
		"ikev2/chain/chaintest": {Test: true, Imports: vocabulary},
		"dataplane/planetest":   {Test: true, Imports: join(vocabulary, []string{"dataplane", "dataplane/flow", "esp"})},
		"lab":                   {Test: true, Imports: []string{"lab/netlab"}},
		"lab/bench":             {Test: true, Imports: []string{"lab/netlab"}},
		"lab/bench/blast":       {Test: true},
		"lab/bench/load":        {Test: true, Imports: join(vocabulary, []string{"ikev2", "ikev2/suite", "esp"})},
		"lab/netlab":            {Test: true},
		"internal/archtest":     {Test: true},
		"internal/coverage":     {Test: true},
	},
	Only: map[string][]string{
		"gvisor.dev/gvisor":                    {"dataplane/netstack"},
		"github.com/mdlayher/netlink":          {"dataplane/xfrm"},
		"github.com/vishvananda/netlink":       {"dataplane/tun", "lab"},
		"github.com/google/nftables":           {"dataplane/tun"},
		"github.com/pelletier/go-toml":         {"config"},
		"go.etcd.io/bbolt":                     {"trust/boltstore"},
		"github.com/spf13/cobra":               {"cmd/btns"},
		"github.com/coreos/go-systemd":         {"engine", "cmd/btns"},
		"filippo.io/bigmod":                    {"ikev2/suite"},
		"crypto/ecdh":                          {"ikev2/suite"},
		"crypto/mlkem":                         {"ikev2/suite"},
		"golang.org/x/crypto/chacha20poly1305": {"ikev2/suite", "esp"},
	},
	BannedNames:  []string{"util", "utils", "common", "misc", "helper", "helpers", "type", "types", "base", "shared", "internal"},
	FileLines:    600,
	FuncLines:    80,
	StructFields: 30,
}

func join(lists ...[]string) []string {
	var all []string
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
