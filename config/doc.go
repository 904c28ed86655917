// Package config reads the TOML file of the daemon and turns it into values of the packages below.
//
// All of it is optional: [Default] is what a host does without a file. Reading is strict. A key that is not known, a
// value that makes no sense and a file that cannot be read are errors with file, line and column, all of them reported at
// once; a file with any error changes nothing. docs/config.md describes every key.
package config
