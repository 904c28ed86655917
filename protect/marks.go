package protect

// Marks says what the outer header of protected packets shows of the inner one's DSCP and ECN fields (RFC 4301 §4.4.1.2).
// The zero value copies both. What comes in keeps its inner DSCP, and its ECN field is made of both (RFC 6040 §4.2).
type Marks struct {
	SetDSCP  bool  // the outer DSCP is DSCP
	DSCP     uint8 // 0 to 63
	ClearECN bool  // tunnel mode: Not-ECT outside, for paths that mistreat ECN (RFC 6040 §4.1, compatibility mode)
}

// MaxDSCP is the highest code point (RFC 2474 §3).
const MaxDSCP = 63

// Outer is the type-of-service octet of the outer header of a packet with this inner one. In transport mode the header is
// the packet's own, so that its ECN field stays.
func (m Marks) Outer(inner uint8, mode Mode) uint8 {
	if m.SetDSCP {
		inner = m.DSCP<<2 | inner&3
	}
	if m.ClearECN && mode == Tunnel {
		inner &^= 3
	}
	return inner
}
