// Package dataplane is the contract between the host that decides and a plane that carries packets.
//
// A plane holds SA pairs and the disposition of address prefixes, protects and checks packets by the pure rules of
// package flow, moves IKE datagrams, and reports what only it can see: the first packet to somewhere, the first
// authentic packet of an SA, spent lifetimes, a peer that moved. Package planetest holds every plane to this contract.
package dataplane
