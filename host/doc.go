// Package host is the wiring of all deciders, pure: events in, actions out.
//
// A [Host] joins ikev2, policy, trust, probe, sad and the flow rules into one brain. It owns what none of them may know
// of the others: which peer an IKE SA belongs to, what becomes of a peer's traffic meanwhile, and what the operator is
// told. Package engine drives one of them on a real machine, package sim drives thousands on a simulated network.
package host
