package integration_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/internal/testkit/script"
)

// A replica in replica-mode forward answers every command as the master does, in both
// protocols, but for those about the node itself.
func TestScriptsThroughAReplica(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Args: []string{"--enable-debug-command", "yes", "--replica-mode", "forward"}})
	replica := c.Nodes[(c.WaitWhole(formLimit)+1)%len(c.Nodes)]
	aboutNodes := []string{"server", "failover", "auth"} // ROLE and HELLO name the role
	for _, path := range scripts(t) {
		s, err := script.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(aboutNodes, s.Name) {
			continue
		}
		for _, proto := range []int{2, 3} {
			if s.Proto == 0 || s.Proto == proto {
				t.Run(fmt.Sprintf("%s/%d", s.Name, proto), func(t *testing.T) {
					play(t, s, replica.Addr(), script.Options{Proto: proto})
				})
			}
		}
	}
}
