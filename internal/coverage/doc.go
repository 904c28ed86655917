// Command coverage prints what `go test -json` reports as go test itself would, and holds the results against the ledger of
// requirements: every ID in docs/requirements.txt is in the name of a test that ran and passed, or stands there with the
// reason why there is none. docs/coverage.md says which test it is.
//
//	go test -json ./... | coverage print RESULTS    prints, and appends the results to the file
//	coverage check RESULTS                          fails when a requirement has no test, or the document is stale
//	coverage write RESULTS                          brings the document up to date
package main
