package wire

import "slices"

// ID is the Identification payload of either side (RFC 7296 §3.5).
type ID struct {
	Type     IDType
	Reserved [3]byte // covered by AUTH as received
	Data     []byte
}

// AppendBody appends what AUTH covers: the payload without its generic header (RFC 7296 §2.15).
func (id ID) AppendBody(dst []byte) []byte { return id.appendTo(dst) }

func parseID(t PayloadType, b []byte) (ID, error) {
	const fixed = 4
	if len(b) < fixed {
		return ID{}, &Error{t.String(), "header", ErrTruncated}
	}
	id := ID{Type: IDType(b[0]), Reserved: [3]byte(b[1:4]), Data: b[fixed:]}
	if !id.Type.allows(len(id.Data)) {
		return ID{}, &Error{t.String(), "identification data", ErrLength}
	}
	return id, nil
}

// allows says whether an identity of this kind can have n octets.
func (t IDType) allows(n int) bool {
	switch t {
	case IDIPv4Addr:
		return n == 4
	case IDIPv6Addr:
		return n == 16
	case IDNull: // RFC 7619 §2.2
		return n == 0
	}
	return true
}

func (id ID) appendTo(dst []byte) []byte {
	dst = append(dst, byte(id.Type), id.Reserved[0], id.Reserved[1], id.Reserved[2])
	return append(dst, id.Data...)
}

func (id ID) clone() Body { id.Data = slices.Clone(id.Data); return id }

func (id ID) check() error {
	if !id.Type.allows(len(id.Data)) {
		return &Error{"ID", "identification data", ErrLength}
	}
	return nil
}

func (ID) items() int { return 0 }
