package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/chain"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/probe"
	"github.com/btns-ipsec/btns/protect"
	"github.com/btns-ipsec/btns/trust"
)

// Config is what a file says, checked and complete.
type Config struct {
	Plane  Plane
	State  string       // directory; empty: the program's default
	Socket string       // path; empty: the program's default
	Listen []netip.Addr // own addresses that IKE is spoken on; empty: all
	Log    Log
	Probe  probe.Scope
	Trust  trust.Mode
	// Recycled are ranges whose addresses are given to one host after the other; see [trust.Config].
	Recycled []netip.Prefix
	Policy   *policy.Policy
	Peers    []Peer
	// Anchors are the authorities that the PAD names, by the names of their files.
	Anchors host.Anchors
	// Certified is what strangers are shown that ask for it by name.
	Certified host.Certified
	aes       bool // this machine is quick at it
	// Warnings are what an operator should look at, in plain words.
	Warnings []string
}

// Plane is a choice of data plane.
type Plane string

const (
	PlaneAuto   Plane = "auto"
	PlaneKernel Plane = "kernel"
	PlaneTUN    Plane = "tun"
)

// Log is how the daemon logs.
type Log struct {
	Format string // "text" or "json"
	Level  string // "debug", "info", "warn" or "error"
}

// Start says who begins with a peer.
type Start uint8

const (
	OnDemand Start = iota // the first packet
	Up                    // this host, at once and again
	Listen                // the peer
)

// Auth is how this host and a peer authenticate each other.
type Auth uint8

const (
	RawKey     Auth = iota + 1 // by public keys that each knows of the other
	SelfSigned                 // as RawKey, and ours is sent in a certificate
	PSK                        // by a shared secret
	Null                       // not at all (RFC 7619)
	X509                       // by certificates of authorities that each knows
)

// Peer is one [[peer]]. What it must show, and which selectors it may ask for, stands in the PAD entry of its name.
type Peer struct {
	Name   string
	Local  netip.Addr // invalid: the system chooses
	Remote netip.Addr // invalid: it comes from anywhere
	Credentials
	Mode      protect.Mode
	InsideL   []netip.Prefix // tunnel mode: what is protected on our side
	InsideR   []netip.Prefix // and on the peer's
	Start     Start
	Childless bool
	IKE       []suite.IKE // nil: the defaults
	ESP       []protect.Suite
	KE        []uint16 // forward secrecy of further children
	Lifetime  protect.Lifetime
	IKELife   protect.Lifetime // zero: the defaults
	Liveness  time.Duration    // zero: the default
}

// Credentials are what a peer and this host show each other.
type Credentials struct {
	Auth     Auth
	LocalID  identity.ID // zero: the address that is used
	RemoteID identity.ID // zero: whatever the peer says
	Key      identity.Signer
	OwnKey   bool           // Key is for this peer; false: the host's key is used
	SendKey  bool           // CERT payload with the raw key
	Cert     []byte         // to send; nil with SelfSigned: one is made
	Above    [][]byte       // certificates that are sent behind Cert
	IDs      policy.IDRange // that the peer may be of, instead of RemoteID
	Anchors  []string       // of the Config
	own      *chain.Own
	Keys     []identity.PublicKey
	Prints   []identity.Fingerprint
	Secret   Secret
}

// Secret is a shared secret. It never prints.
type Secret []byte

func (Secret) String() string   { return "secret(redacted)" }
func (Secret) GoString() string { return "config.Secret{redacted}" }

// Format keeps the octets out of every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// Default is what a host does without a file.
func Default() (*Config, error) { return Parse("", nil, nil) }

// Load reads a file. Files that it names are looked for beside it.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	dir := filepath.Dir(path)
	c, err := Parse(path, text, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return os.ReadFile(name)
	})
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	for _, p := range c.Peers {
		if err == nil && len(p.Secret) > 0 && info.Mode().Perm()&0o004 != 0 {
			c.Warnings = append(c.Warnings, fmt.Sprintf("%s can be read by everybody and may hold a shared secret; chmod 600 it", path))
			break
		}
	}
	return c, nil
}
