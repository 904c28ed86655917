// Package trust is what is known of peers' keys, and how well (leap of faith, RFC 5387 §5.7).
//
// The key is the identity; names and addresses are observations about it. A [Book] holds one record for each key at each
// place where it was seen, and one for the key itself where something is known of it wherever it is: that it was verified,
// revoked, or handed over to another. The book is asked twice about a session: [Book.Judge] when the peer has
// authenticated, before anything flows, and [Book.Carried] when the first packets went both ways; only then is anything
// recorded (BTNS-TRUST-16). [Book.Alive] keeps the record young while the session lasts.
//
// Changes come back as values, and whoever drives the book writes them to its store (package boltstore, or another). What
// has to be acted on or told comes from [Book.Events]: an assurance that fell means that the sessions of that key have to
// be judged again with [Book.Assess]. A Book does no I/O, reads no clock and has one owner.
//
// Statements between peers are octets made and read here and carried by IKE: [Announce] and [ParseAnnouncement] for a key
// that names its successors, [SignRevocation] and [ParseRevocation] for one that ends itself. Operators exchange what they
// know as text, one peer a line: [ParseKnown], [Book.Import] and [Export].
package trust
