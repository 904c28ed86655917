// Package util is badly named.
package util // want a package called util says nothing
