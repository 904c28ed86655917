package ikev2

import (
	"time"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/protect"
)

// Config is what an endpoint is told once. Every zero field takes the value of [Defaults].
type Config struct {
	// IKE is what is offered and accepted, in order of preference.
	IKE []Proposal
	// Instance is a number that this machine chose when it started; btns peers are told. Zero: they are not.
	Instance Instance
	// Encap asks every initiator for UDP encapsulation whatever the path (userspace planes).
	Encap bool
	// Lifetime of IKE SAs, by time.
	Lifetime protect.Lifetime
	// Liveness is how long a peer may be silent before it is checked; 0: only [CheckAlive] checks.
	Liveness time.Duration
	// Init is the schedule of the first message, Usual of all others, Quick that of liveness checks and of deletes, Suspect
	// that of liveness checks of a peer that does not answer ESP: see [Unanswered].
	Init, Usual, Quick, Suspect Schedule
	// FragmentSize is the largest IP datagram of a message that can be fragmented (RFC 7383 §2.5.1).
	FragmentSize int
	// HalfOpenTime is how long a responder waits for IKE_AUTH.
	HalfOpenTime time.Duration
	// CookieAbove is how many half-open IKE SAs there may be before cookies are asked for; negative: cookies always.
	CookieAbove int
	// MaxHalfOpen, MaxHalfOpenPerPrefix (of /32 and /64) and MaxSAs bound state. A rekeyed IKE SA counts as one.
	MaxHalfOpen, MaxHalfOpenPerPrefix, MaxSAs int
	// MaxChildren bounds the children of one IKE SA that the peer can ask for.
	MaxChildren int
	// Keepalive is the interval of NAT keepalives when we are behind a NAT (RFC 3948 §4).
	Keepalive time.Duration
}

// Override replaces parts of [Config] for one IKE SA; zero fields change nothing.
type Override struct {
	IKE      []Proposal
	Lifetime protect.Lifetime
	Liveness time.Duration
	Usual    Schedule
}

// Schedule says when a request is sent again (RFC 7296 §2.4).
type Schedule struct {
	First  time.Duration // after the first transmission
	Factor float64       // of one interval to the one before
	Cap    time.Duration // longest interval
	Sends  int           // transmissions in all; after the last one the interval is waited out
}

// jitter is the share by which intervals vary, so that two ends seldom stay in step.
const jitter = 0.1

// Proposal is one proposal of an IKE SA payload: alternatives of every transform, in order of preference. AEAD and other
// ciphers do not share a proposal (RFC 7296 §3.3), nor do those with and without AddKE (RFC 9370 §2.2.1).
type Proposal struct {
	Encr  []Encryption
	Integ []protect.Integ // empty with AEAD
	PRF   []suite.PRF
	KE    []suite.KE
	AddKE [][]suite.KE // alternatives of ADDKE1, ADDKE2, ...; suite.NoKE among them lets that one be skipped
}

// Encryption is a cipher with its key length.
type Encryption struct {
	Encr    protect.Encr
	KeyBits uint16 // 256 for ChaCha20-Poly1305
}

// ProposalOf offers exactly one combination.
func ProposalOf(s suite.IKE) Proposal {
	p := Proposal{Encr: []Encryption{{s.Encr, s.KeyBits}}, PRF: []suite.PRF{s.PRF}, KE: []suite.KE{s.KE}}
	if s.Integ != protect.NoInteg {
		p.Integ = []protect.Integ{s.Integ}
	}
	for _, k := range s.AddKE {
		p.AddKE = append(p.AddKE, []suite.KE{k})
	}
	return p
}

// DefaultProposals is the hybrid key exchange first, then the same without ML-KEM for peers that have none, then ciphers
// for older peers. The cipher that the processor is fast at comes first.
func DefaultProposals(aes bool) []Proposal {
	aead := []Encryption{{protect.AESGCM16, 128}, {protect.AESGCM16, 256}, {protect.ChaCha20Poly1305, 256}}
	if !aes {
		aead = []Encryption{aead[2], aead[0], aead[1]}
	}
	prfs := []suite.PRF{suite.PRFSHA256, suite.PRFSHA384, suite.PRFSHA512}
	curves := []suite.KE{suite.X25519, suite.P256, suite.P384}
	all := append(curves[:3:3], suite.MODP3072, suite.MODP4096, suite.MODP2048)
	return []Proposal{
		{Encr: aead, PRF: prfs, KE: curves, AddKE: [][]suite.KE{{suite.MLKEM768}}},
		{Encr: aead, PRF: prfs, KE: all},
		{
			Encr:  []Encryption{{protect.AESCBC, 256}, {protect.AESCBC, 128}},
			Integ: []protect.Integ{protect.HMACSHA256, protect.HMACSHA384, protect.HMACSHA512},
			PRF:   prfs, KE: all,
		},
	}
}

// Defaults is what a zero Config means.
func Defaults() Config {
	return Config{
		IKE: DefaultProposals(true),
		Lifetime: protect.Lifetime{
			Soft:   protect.Limits{Time: 4*time.Hour - 15*time.Minute},
			Hard:   protect.Limits{Time: 4 * time.Hour},
			Jitter: 25 * time.Minute,
		},
		Init:         Schedule{First: 500 * time.Millisecond, Factor: 1.8, Cap: time.Minute, Sends: 8},
		Usual:        Schedule{First: time.Second, Factor: 1.8, Cap: time.Minute, Sends: 8},
		Quick:        Schedule{First: 500 * time.Millisecond, Factor: 1.8, Cap: 10 * time.Second, Sends: 7},
		Suspect:      Schedule{First: 450 * time.Millisecond, Factor: 1.25, Cap: 3 * time.Second, Sends: 8}, // nine seconds in all
		FragmentSize: 1280,
		HalfOpenTime: 30 * time.Second,
		CookieAbove:  100,
		MaxHalfOpen:  10000, MaxHalfOpenPerPrefix: 256, MaxSAs: 250000,
		MaxChildren: 64,
		Keepalive:   20 * time.Second,
	}
}

// complete fills the zero fields of c.
func (c Config) complete() Config {
	d := Defaults()
	if len(c.IKE) == 0 {
		c.IKE = d.IKE
	}
	if c.Lifetime == (protect.Lifetime{}) {
		c.Lifetime = d.Lifetime
	}
	for _, s := range []struct{ have, want *Schedule }{
		{&c.Init, &d.Init}, {&c.Usual, &d.Usual}, {&c.Quick, &d.Quick}, {&c.Suspect, &d.Suspect},
	} {
		if s.have.First <= 0 || s.have.Sends <= 0 {
			*s.have = *s.want
		}
		s.have.Factor = max(s.have.Factor, 1)
		s.have.Cap = max(s.have.Cap, s.have.First)
	}
	for _, n := range []struct{ have, want *int }{
		{&c.FragmentSize, &d.FragmentSize},
		{&c.CookieAbove, &d.CookieAbove},
		{&c.MaxHalfOpen, &d.MaxHalfOpen},
		{&c.MaxHalfOpenPerPrefix, &d.MaxHalfOpenPerPrefix},
		{&c.MaxSAs, &d.MaxSAs},
		{&c.MaxChildren, &d.MaxChildren},
	} {
		if *n.have == 0 {
			*n.have = *n.want
		}
	}
	c.FragmentSize = max(c.FragmentSize, 256)
	if c.HalfOpenTime <= 0 {
		c.HalfOpenTime = d.HalfOpenTime
	}
	if c.Keepalive <= 0 {
		c.Keepalive = d.Keepalive
	}
	return c
}
