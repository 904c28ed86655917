package ikev2

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/btns-ipsec/btns/identity"
	"github.com/btns-ipsec/btns/ikev2/wire"
)

// shown is how one side has authenticated itself: what its AUTH covers, and the body of AUTH.
type shown struct{ octets, auth []byte }

func (v *shown) by(a wire.Auth) {
	v.auth = append([]byte{byte(a.Method), a.Reserved[0], a.Reserved[1], a.Reserved[2]}, a.Data...)
}

// bindingOf is the unique channel binding of an IKE SA (channel-binding.md §4): whoever sits between the two ends has two IKE
// SAs, and two bindings. It is fixed by the initial exchanges, and stays when the IKE SA is rekeyed.
func bindingOf(i, r shown) (b identity.Binding) {
	in := []byte("btns-ipsec-unique\x00\x01")
	for _, part := range [][]byte{i.octets, r.octets, i.auth, r.auth} {
		in = binary.BigEndian.AppendUint32(in, uint32(len(part)))
		in = append(in, part...)
	}
	return sha256.Sum256(in)
}

// binding is that of the IKE SA that the handshake has made.
func (h *handshake) binding(initiator bool) identity.Binding {
	if initiator {
		return bindingOf(h.mine, h.theirs)
	}
	return bindingOf(h.theirs, h.mine)
}
