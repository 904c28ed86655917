// Package policy is the SPD and the PAD (RFC 4301 §4.4) with the extensions for unauthenticated peers (RFC 5386 §2,
// RFC 7619): which traffic is protected, who a peer may be, and which traffic a peer may ask for.
//
// A [Policy] is made whole by [New] and never changes. Three questions are asked of it: [Policy.Outbound] and its
// inbound relatives about a packet, [Policy.FindPAD] about a peer that authenticates, and [Policy.AuthorizeChild] about
// every child SA, in both roles and at every rekey (BTNS-CORE-13). It knows nothing of keys seen earlier (package trust)
// nor of addresses that do not answer (package probe).
package policy
