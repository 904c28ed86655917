package protect

import "testing"

// The outer header has the inner DSCP or one of its own; ECN is copied, but where a tunnel hides it (RFC 4301 §5.1.2.1,
// RFC 6040 §4.1).
func TestMarks(t *testing.T) {
	const ef, ect0, ce = 46 << 2, 2, 3
	for _, tc := range []struct {
		name              string
		m                 Marks
		inner             uint8
		transport, tunnel uint8
	}{
		{"copied", Marks{}, ef | ce, ef | ce, ef | ce},
		{"set", Marks{SetDSCP: true, DSCP: 10}, ef | ect0, 10<<2 | ect0, 10<<2 | ect0},
		{"set to none", Marks{SetDSCP: true}, ef, 0, 0},
		{"ECN hidden in tunnels", Marks{ClearECN: true}, ef | ect0, ef | ect0, ef},
		{"both", Marks{SetDSCP: true, DSCP: MaxDSCP, ClearECN: true}, ce, 63<<2 | ce, 63 << 2},
	} {
		if a, b := tc.m.Outer(tc.inner, Transport), tc.m.Outer(tc.inner, Tunnel); a != tc.transport || b != tc.tunnel {
			t.Errorf("%s: %#x in transport mode, %#x in tunnel mode", tc.name, a, b)
		}
	}
}
