// Package selector is the vocabulary of traffic selectors (RFC 4301 §4.4.1.1, RFC 7296 §3.13.1): which packets a rule or
// an SA is about, and how two such descriptions contain, intersect and narrow each other.
package selector
