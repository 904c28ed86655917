// Package sim runs many hosts on a simulated network, in one goroutine, in virtual time, from a seed.
//
// Every node is a real [host.Host] with a real [flow.Table]: the same deciders, IKE messages and ESP packets as on a
// machine; only the wire, the clock and the applications are simulated. A test says what must hold, not which messages
// fly. When it does not hold, the failure prints the seed and the ladder of the last messages; the same seed gives the
// same ladder.
package sim
