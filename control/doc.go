// Package control is the local API of a running daemon: JSON over HTTP on a Unix socket.
//
// It holds the JSON types, which scripts depend on (fields are added, never renamed; a missing field means unknown; times
// are UTC in RFC 3339; units stand in names), the [Server] that answers for a [Daemon], and the [Client] that `btns peers`
// and its like are made of. Whoever may open the socket may do everything: it belongs to root alone (mode 0600 in a
// directory of mode 0700).
package control
