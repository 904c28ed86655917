// Package stray is in no table.
package stray // want package "stray" is not in the table of internal/archtest/rules.go
