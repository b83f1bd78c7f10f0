//go:build !faults

package cluster

// hooks is where builds with the tag "faults" disturb a node.
type hooks struct{}

func (*hooks) watch(*Node)         {}
func (*hooks) beforeAppend() error { return nil }
func (*hooks) afterAppend() error  { return nil }
func (*hooks) cut(string) error    { return nil }
func (*hooks) free(b int64) int64  { return b }
