//go:build race

package cluster_test

// underRace says that the race detector watches.
const underRace = true
