//go:build !race

package pubsub_test

// underRace says that the race detector watches.
const underRace = false
