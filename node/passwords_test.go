package node

import (
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
)

// P7, P8: the ports have passwords of their own: what opens one does not open the
// other, and without its password a port tells nothing, not even to a probe.
func TestPortsHaveTheirOwnPasswords(t *testing.T) {
	m := single(t)
	m.dial().MustDo(t, "CONFIG", "SET", "requirepass", "of-data", "sentinel-requirepass", "of-sentinel")
	for _, port := range []struct {
		addr, own, other string
		asks             []string
	}{
		{m.data(), "of-data", "of-sentinel", []string{"GET", "a"}},
		{m.sentinel(), "of-sentinel", "of-data", []string{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"}},
	} {
		c := testkit.MustDial(t, port.addr)
		for _, step := range []struct {
			args []string
			want string
		}{
			{[]string{"PING"}, "-NOAUTH Authentication required."},
			{port.asks, "-NOAUTH Authentication required."},
			{[]string{"HELLO", "3"}, "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time"},
			{[]string{"AUTH", port.other}, "-WRONGPASS invalid username-password pair or user is disabled."},
			{[]string{"AUTH", "somebody", port.own}, "-WRONGPASS invalid username-password pair or user is disabled."},
			{[]string{"HELLO", "3", "AUTH", "default", port.other}, "-WRONGPASS invalid username-password pair or user is disabled."},
			{[]string{"AUTH", "default", port.own}, "+OK"},
			{[]string{"PING"}, "+PONG"},
		} {
			if r, _ := c.Do(step.args...); r.String() != step.want {
				t.Errorf("%s, %q: %v, want %s", port.addr, step.args, r, step.want)
			}
		}
		fresh := testkit.MustDial(t, port.addr)
		if r := fresh.MustDo(t, "HELLO", "3", "AUTH", "default", port.own, "SETNAME", "me"); r.Type != '%' {
			t.Errorf("%s: HELLO answers %v", port.addr, r)
		}
		fresh.MustDo(t, port.asks...)
	}
}
