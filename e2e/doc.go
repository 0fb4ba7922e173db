// Package e2e drives sampan as its users do: real clients (Docker, containerd,
// Podman, Skopeo, Buildah, crane, regctl, ORAS, Helm, curl) pull real images
// through a real sampan process from real registry servers.
//
// Each test asserts two things: what came out (digests equal to the upstream's,
// files in the image, the output of its container) and what the upstream was
// asked (a counting proxy stands in front of every registry).
//
// The tests are behind the build tag e2e, need root on Linux and the programs
// that install.sh puts in place; e2e/run.sh does both. A missing program is a
// failure and not a skip. They run in network, mount and process namespaces of
// their own, in which only the loopback interface exists: nothing can be dialled
// outside, no file of the machine's container engines is touched, and whatever
// a test starts ends with it. There the names of the real registries lead to a
// listener that only takes note (see origins), which proves that no client went
// past the mirror.
//
// The package does not test the protocol's corners, which belong to the packages
// that own them, nor speed, which belongs to bench.
package e2e
