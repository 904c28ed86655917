// Package flow is the immutable table that a plane works from, and its verdict on a packet (RFC 4301 §5).
//
// A [Table] maps inbound SPIs to SA pairs and remote prefixes to a disposition and the pairs that serve it. It is
// replaced as a whole and read without locks. The rules stand here, once, for every plane and for the simulator:
// which pair seals an outbound packet, whether an opened packet is what its SA allows (RFC 4301 §5.2 step 4), and
// whether a clear packet may come in.
package flow
