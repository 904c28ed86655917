// Package chain verifies the X.509 certificates by which a peer proves its identity in IKE, under the authorities that an
// operator has named: RFC 5280 with the profile of RFC 4945.
//
// It holds no state and reads no clock: certificates, the identity that they must be about, and the time come in as
// arguments. Whether a certificate was revoked is not found out, since that would mean to fetch lists from places that the
// peer names; a key that was stolen is revoked at the host (trust), and certificates should be short-lived.
package chain
