// Package ikev2 is the IKE SA machine (RFC 7296), without sockets, clocks or goroutines.
//
// An [Endpoint] holds all IKE SAs of one host. Feed every datagram, deadline, wish and answer to [Endpoint.Step] and
// carry out, in order, the actions that come back. It owns everything that the RFC calls IKE SA: message IDs,
// retransmission, cookies, fragments, key exchange, rekeying, deletion, liveness. It knows nothing of policy and trust:
// three questions leave as actions and come back as events, [FindCredential], [JudgePeer] and [JudgeChild]. Public-key
// work leaves as [Compute] and comes back as [Computed], so that whoever drives the endpoint can use every core.
package ikev2
