// Package tun is the plane that carries ESP in this process (RFC 4303, RFC 3948): packets to protected peers are routed
// to a TUN device, sealed and sent from the sockets that IKE uses too; what arrives there is opened, checked against
// its SA and handed back to the kernel.
//
// Traffic with anybody else never passes through the process. Packets run to completion: one goroutine reads the
// device, one each socket, and none of them takes more than an uncontended lock or allocates per packet. An SA under which
// nothing came or went for half a minute gives back what only a busy one needs, and makes it again. What the plane
// changes on the host (device, routes, rules, filter table, programs on interfaces) carries its names and is removed by
// [Plane.Close], and after a crash by [Cleanup], which [Open] begins with.
package tun
