package sessions

import "math/rand/v2"

// kind separates the commands that are measured apart.
type kind int

const (
	read kind = iota
	write
	kinds // how many there are
)

// share is how much of the load one sort of command makes up.
type share struct {
	name   string
	weight int
	build  func(b *books, random *rand.Rand) command
}

// blend is the usual mixture of applications that keep sessions: most touch a
// session's deadline at each request, some write it anew each time, and proxies
// mostly read. Of 900 commands 500 are GET, 280 EXPIRE, 100 SET, 15 DEL, and 5
// look at many sessions.
func blend() []share {
	return []share{
		{"GET", 1000, (*books).get},
		{"EXPIRE", 560, (*books).expire},
		{"SET", 200, (*books).set},
		{"DEL", 30, (*books).del},
		{"SCAN", 5, (*books).scan},
		{"MGET", 5, (*books).mget},
	}
}

// choose draws one sort of command by its weight.
func choose(shares []share, random *rand.Rand) share {
	sum := 0
	for _, s := range shares {
		sum += s.weight
	}
	n := random.IntN(sum)
	for _, s := range shares {
		if n -= s.weight; n < 0 {
			return s
		}
	}
	return shares[len(shares)-1]
}
