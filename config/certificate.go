package config

import (
	"encoding/pem"
	"errors"

	"github.com/btns-ipsec/btns/identity"
)

var errNoCertificate = errors.New("no certificate in it")

// certificate returns the first certificate of a PEM text, as DER, and its key.
func certificate(text []byte) ([]byte, identity.PublicKey, error) {
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, identity.PublicKey{}, errNoCertificate
		}
		if block.Type == "CERTIFICATE" {
			k, err := identity.FromCertificate(block.Bytes)
			return block.Bytes, k, err
		}
	}
}
