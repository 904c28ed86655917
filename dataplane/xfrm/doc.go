// Package xfrm has the Linux kernel tell when packets leave for somewhere: policies of level "use" in its SPD raise an
// acquire while the packets go on in clear (RFC 4301 §5.1). It works on kernels without ESP too.
//
// [Listen] installs the policies and listens; [Watcher.Close] removes them, with the larval states that acquires leave in
// the kernel, and [Cleanup] those of a process that did not get there. Structures of the kernel are read and written
// field by field.
package xfrm
