// Package archtest holds the picture of ARCHITECTURE.md: which package may import which, what a pure package must not
// do, how long files and functions may become, and that everything visible is documented.
//
// The rules are the tables of rules.go. The checks read the source themselves: `go list` would be answered from the
// test cache after the tree has changed.
package archtest
