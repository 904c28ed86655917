// Package protect is the vocabulary of protection: which transforms an SA uses, in which mode, for how long (RFC 4301
// §4.4.2, RFC 7296 §3.3). It computes nothing on packets; package esp does.
package protect
