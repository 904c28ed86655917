// Package lab holds, under the build tag lab, the end-to-end tests: btns daemons in network namespaces, alone and against
// strongSwan and Libreswan. They need root; `make test` runs them. The networks are built by lab/netlab.
package lab
