module github.com/btns-ipsec/btns

go 1.26.0

require (
	filippo.io/bigmod v0.1.0
	golang.org/x/crypto v0.58.0
	golang.org/x/sys v0.49.0 // indirect
	pgregory.net/rapid v1.3.0 // indirect
)
