// Package probe decides which unknown hosts are tried for BTNS, when again, and what silence means.
//
// Ask [Prober.Want] when traffic goes to an address without protection, and tell the [Prober] what came of the attempt.
// It is polite by itself: few new addresses a second, longer and longer pauses after each failure, never an address that
// is not one host. What it remembers is bounded. It sends nothing, reads no clock and has one owner.
package probe
