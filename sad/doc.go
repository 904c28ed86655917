// Package sad is the database of live SA pairs (RFC 4301 §4.4.2): which exist, under which IKE SA, with whom, and which of
// them sends. It draws the inbound SPIs. Keys and counters live in the data plane, not here.
package sad
