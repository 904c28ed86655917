package protect

import "time"

// Limits bounds the use of an SA; a zero field is no bound, and the first one reached counts (RFC 4301 §4.4.2.1).
type Limits struct {
	Time    time.Duration // since the SA was made
	Bytes   uint64        // protected octets, one direction
	Packets uint64        // one direction
}

// Lifetime says when an SA is replaced and when it ends.
type Lifetime struct {
	Soft   Limits        // begin to rekey
	Hard   Limits        // stop using it
	Jitter time.Duration // Soft.Time is reduced by a random part of this, so that two ends seldom collide
}
