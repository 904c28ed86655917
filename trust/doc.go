// Package trust is what is known of peers' keys, and how well (leap of faith, RFC 5387 §5.7).
//
// A [Book] holds one record for each key seen at an address. It is asked twice about a session: [Book.Judge] when the
// peer has authenticated, before anything flows, and [Book.Carried] when the first packets went both ways; only then is
// anything recorded (BTNS-TRUST-16). Changes come back as values, and whoever drives the book writes them to its store
// (package boltstore, or another). A Book does no I/O, reads no clock and has one owner.
package trust
