// Package testkit starts what tests with real processes need: the binary of
// this repository, clusters of it, redis-server as the oracle to compare with,
// and a raw client that keeps every byte of a reply. It is for tests only and
// knows nothing of what any single test wants to show.
//
// Everything that a test starts here ends with the test, by process id. Helpers
// take a testing.TB and fail it themselves, unless they return an error.
package testkit
