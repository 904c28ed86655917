package sim

import (
	"github.com/btns-ipsec/btns/host"
	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2"
	"github.com/btns-ipsec/btns/ikev2/suite"
	"github.com/btns-ipsec/btns/policy"
	"github.com/btns-ipsec/btns/protect"
)

// defaultConfig is what `btns up` runs with, except for the key exchange: ML-KEM takes its randomness from the operating
// system, so that a seed would not decide everything.
func defaultConfig(signer identity.Signer) (host.Config, error) {
	p, err := policy.Default()
	if err != nil {
		return host.Config{}, err
	}
	return host.Config{
		Signer: signer, Policy: p, Encap: true,
		IKE: ikev2.Config{Encap: true, IKE: []ikev2.Proposal{ikev2.ProposalOf(suite.IKE{
			Cipher: suite.Cipher{Encr: protect.AESGCM16, KeyBits: 128}, PRF: suite.PRFSHA256, KE: suite.X25519,
		})}},
	}, nil
}
