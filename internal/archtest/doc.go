// Package archtest holds the import graph of this module as a list, and tests
// that fail when the code departs from it: an edge that is not in the list, an
// import upwards, a clock or a goroutine in the deterministic core, a fault hook
// in a release build. It knows only source text; nothing of it runs elsewhere.
package archtest
