package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
)

// The words of proposals are those that operators of other IKE daemons write.
var (
	ciphers = map[string]protect.Suite{
		"aes128gcm16": {Encr: protect.AESGCM16, KeyBits: 128}, "aes256gcm16": {Encr: protect.AESGCM16, KeyBits: 256},
		"chacha20poly1305": {Encr: protect.ChaCha20Poly1305, KeyBits: 256},
		"aes128":           {Encr: protect.AESCBC, KeyBits: 128}, "aes256": {Encr: protect.AESCBC, KeyBits: 256},
	}
	hashes = map[string]protect.Integ{
		"sha256": protect.HMACSHA256, "sha384": protect.HMACSHA384, "sha512": protect.HMACSHA512,
	}
	prfs = map[string]suite.PRF{
		"prfsha256": suite.PRFSHA256, "prfsha384": suite.PRFSHA384, "prfsha512": suite.PRFSHA512,
	}
	exchanges = map[string]suite.KE{
		"x25519": suite.X25519, "curve25519": suite.X25519, "ecp256": suite.P256, "ecp384": suite.P384,
		"modp2048": suite.MODP2048, "modp3072": suite.MODP3072, "modp4096": suite.MODP4096,
	}
	additional = map[string]suite.KE{"ke1_mlkem768": suite.MLKEM768}
)

// proposal is one text such as "aes128gcm16-prfsha256-x25519", taken apart.
type proposal struct {
	suite  protect.Suite
	prf    suite.PRF
	ke     suite.KE
	addKE  []suite.KE
	noESN  bool
	hasEnc bool
}

func parseProposal(text string) (p proposal, err error) {
	once := func(taken bool, word string) {
		if taken && err == nil {
			err = fmt.Errorf("%q is one too many of its kind; write another proposal for alternatives", word)
		}
	}
	for word := range strings.SplitSeq(text, "-") {
		if c, ok := ciphers[word]; ok {
			once(p.hasEnc, word)
			p.suite.Encr, p.suite.KeyBits, p.hasEnc = c.Encr, c.KeyBits, true
		} else if h, ok := hashes[word]; ok {
			once(p.suite.Integ != 0, word)
			p.suite.Integ = h
		} else if f, ok := prfs[word]; ok {
			once(p.prf != 0, word)
			p.prf = f
		} else if k, ok := exchanges[word]; ok {
			once(p.ke != 0, word)
			p.ke = k
		} else if k, ok := additional[word]; ok {
			once(p.addKE != nil, word)
			p.addKE = []suite.KE{k}
		} else if word == "noesn" || word == "esn" {
			p.noESN = word == "noesn"
		} else {
			return p, fmt.Errorf("%q is not known", word)
		}
	}
	if err == nil && !p.hasEnc {
		err = fmt.Errorf("no cipher in %q", text)
	}
	return p, err
}

const (
	ikeHint = `write for instance "aes128gcm16-prfsha256-x25519", "aes256-sha256-modp2048" or "aes256gcm16-prfsha384-x25519-ke1_mlkem768"`
	espHint = `write for instance "aes128gcm16", "chacha20poly1305-x25519" or "aes256-sha256"`
)

func (r *reader) ike(key string, texts []string) []suite.IKE {
	var out []suite.IKE
	for _, t := range texts {
		p, err := parseProposal(t)
		i := suite.IKE{PRF: p.prf, KE: p.ke, AddKE: p.addKE}
		i.Encr, i.KeyBits, i.Integ = p.suite.Encr, p.suite.KeyBits, p.suite.Integ
		if i.PRF == 0 { // the PRF of the hash, as others read it
			i.PRF = map[protect.Integ]suite.PRF{
				protect.HMACSHA384: suite.PRFSHA384, protect.HMACSHA512: suite.PRFSHA512,
			}[p.suite.Integ]
			if i.PRF == 0 {
				i.PRF = suite.PRFSHA256
			}
		}
		if i.Encr.AEAD() && p.prf == 0 {
			i.Integ = protect.NoInteg // "aes128gcm16-sha256-x25519" means the PRF
		}
		if err == nil {
			err = i.Valid()
		}
		if err != nil {
			r.fail(key, "proposal %q: %v; %s", t, err, ikeHint)
			continue
		}
		out = append(out, i)
	}
	return out
}

// esp reads proposals of ESP; none is the default offer. The key exchanges of all of them are for further children.
func (r *reader) esp(key string, texts []string) (offer []protect.Suite, ke []uint16) {
	if len(texts) == 0 {
		return policy.DefaultOffer(r.aes), nil
	}
	for _, t := range texts {
		p, err := parseProposal(t)
		s := p.suite
		s.ESN = !p.noESN
		switch {
		case err != nil:
		case p.prf != 0 || p.addKE != nil:
			err = fmt.Errorf("ESP has no PRF and no additional key exchange")
		default:
			err = s.Valid()
		}
		if err != nil {
			r.fail(key, "proposal %q: %v; %s", t, err, espHint)
			continue
		}
		offer = append(offer, s)
		if k := uint16(p.ke); k != 0 && !slices.Contains(ke, k) {
			ke = append(ke, k)
		}
	}
	return offer, ke
}
