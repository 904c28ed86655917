// Package engine runs a host on a real machine: it is the only owner of clocks and goroutines of key management, and
// holds no rule of its own.
//
// One goroutine, the loop, owns the [Host] and is the only caller of the plane. Everything else reaches it through one
// bounded queue: events of the plane, finished jobs, requests of the control socket. What the host answers is carried
// out there and then, except public-key work, which goes to a fixed set of workers, and the store, whose writes are
// batched on a goroutine of their own.
package engine
