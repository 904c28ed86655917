// Package ikev2 is the IKE SA machine (RFC 7296), without sockets, clocks or goroutines.
//
// An [Endpoint] holds all IKE SAs of one host. Feed every datagram, deadline, wish and answer to [Endpoint.Step] and
// carry out, in order, the actions that come back. It owns everything that the RFC calls IKE SA: message IDs,
// retransmission, cookies, fragments, key exchange, rekeying, deletion, liveness. It knows nothing of policy and trust:
// three questions leave as actions and come back as events, [FindCredential], [JudgePeer] and [JudgeChild]. Public-key
// work leaves as [Compute] and comes back as [Computed], so that whoever drives the endpoint can use every core.
//
//	for {
//		out = endpoint.Step(time.Now(), event, out[:0]) // a Datagram, a Tick at Deadline, a wish, an answer
//		for _, action := range out { ... }
//	}
//
// What a [Handle] names is a session: an authenticated relation with a peer that survives the rekeying of its IKE SA.
// Each IKE SA under it is in one state at a time, a small struct that holds only what exists in that state; one table says
// what may come in which state and what it must contain. In an established IKE SA the wishes of this side are tasks, of
// which one at a time has the window, while the peer's requests are answered beside it.
//
// MOBIKE (RFC 4555), EAP, session resumption and post-quantum PSKs are not spoken. The keys of NULL peers prove nothing:
// see [Method].
package ikev2
