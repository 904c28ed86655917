package config

import (
	"encoding/pem"
	"errors"

	"github.com/btns-ipsec/btns/identity"
)

// certificate returns the first certificate of a PEM text, as DER, and its key.
func certificate(text []byte) ([]byte, identity.PublicKey, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, identity.PublicKey{}, errors.New("no certificate in it")
		}
		if block.Type == "CERTIFICATE" {
			k, err := identity.FromCertificate(block.Bytes)
			return block.Bytes, k, err
		}
	}
}
