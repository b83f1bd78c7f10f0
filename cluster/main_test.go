package cluster_test

import (
	"testing"

	"go.uber.org/goleak"
)

// Whatever a test starts has ended when all tests have.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}
