// Package netlab builds small networks of namespaces for tests: hosts, links, routers, captures, and the daemons that run
// on them (btns, strongSwan, Libreswan). It needs root, and the packages that scripts/install-deps.sh installs.
//
// Everything a [Lab] makes carries the lab's name and goes away with the test; what a killed run has left is removed by
// the next one. Whoever waits does so with a deadline, and the time that was needed is printed.
package netlab
