package sessions

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// newBooks has n live sessions, logged in at instant 0 with a life of a minute.
func newBooks(n int) *books {
	b := openBooks(Options{Sessions: n, Connections: 1, TTL: time.Minute, Seed: 1})[0]
	for b.vacant() > 0 {
		b.login().answered(status("OK"), span{})
	}
	return b
}

func status(text string) testkit.Reply { return testkit.Reply{Type: '+', Text: []byte(text)} }

func number(n int64) testkit.Reply { return testkit.Reply{Type: ':', Text: fmt.Append(nil, n)} }

func bulk(text string) testkit.Reply { return testkit.Reply{Type: '$', Text: []byte(text)} }

func missing() testkit.Reply { return testkit.Reply{Type: '$', Null: true} }

// at is a span of a millisecond.
func at(sent time.Duration) span { return span{sent, sent + time.Millisecond} }

// wantFound compares the findings with what they must say, one word of each.
func wantFound(t *testing.T, b *books, words ...string) {
	t.Helper()
	if b.found != len(words) {
		t.Fatalf("found %d: %v; want %d", b.found, b.findings, len(words))
	}
	for i, w := range words {
		if !strings.Contains(b.findings[i], w) {
			t.Errorf("finding %q does not say %q", b.findings[i], w)
		}
	}
}

// What a read shows is judged exactly: the acknowledged version until the
// deadline, nothing after it, and either in the second around it.
func TestBooksJudgeReads(t *testing.T) {
	v := newValues(1)
	for _, k := range []struct {
		name  string
		reply testkit.Reply
		at    time.Duration
		found []string
	}{
		{"the right version", bulk(v.value(0, 1)), 0, nil},
		{"nothing", missing(), 58 * time.Second, []string{"lost"}},
		{"nothing near the deadline", missing(), 59*time.Second + 500*time.Millisecond, nil},
		{"the version near the deadline", bulk(v.value(0, 1)), 60*time.Second + 500*time.Millisecond, nil},
		{"the version after the deadline", bulk(v.value(0, 1)), 62 * time.Second, []string{"after its end"}},
		{"a version nobody wrote", bulk(v.value(0, 2)), 0, []string{"version 2 of session 0"}},
		{"another session", bulk(v.value(5, 1)), 0, []string{"version 1 of session 5"}},
		{"rubbish", bulk("x"), 0, []string{"nobody wrote"}},
	} {
		b := newBooks(1)
		b.get(random()).answered(k.reply, at(k.at))
		t.Run(k.name, func(t *testing.T) { wantFound(t, b, k.found...) })
		if gone := k.reply.Null; gone != (len(b.live) == 0) || gone != (len(b.ended) == 1) {
			t.Errorf("%s: %d live, %d ended", k.name, len(b.live), len(b.ended))
		}
	}
}

// An old version after a newer one was acknowledged is a lost write.
func TestBooksFindLostWrites(t *testing.T) {
	b := newBooks(1)
	b.set(random()).answered(status("OK"), at(time.Second))
	b.get(random()).answered(bulk(b.values.value(0, 1)), at(2*time.Second))
	wantFound(t, b, "version 2 of session 0 was acknowledged, but its key holds version 1")
}

// A reply to EXPIRE and DEL tells whether the session was there.
func TestBooksJudgeWrites(t *testing.T) {
	b := newBooks(2)
	b.expire(random()).answered(number(1), at(30*time.Second))
	wantFound(t, b)
	moved := 0
	for _, s := range b.live {
		if s.earliest == 90*time.Second && s.latest == 90*time.Second+time.Millisecond {
			moved++
		}
	}
	if moved != 1 {
		t.Errorf("%d deadlines were moved: %+v", moved, b.live)
	}
	b.expire(random()).answered(number(0), at(31*time.Second))
	wantFound(t, b, "lost")
	b.del(random()).answered(number(0), at(31*time.Second))
	wantFound(t, b, "lost", "lost")
	if len(b.live) != 0 || len(b.ended) != 2 {
		t.Errorf("%d live, %d ended", len(b.live), len(b.ended))
	}
}

// Sessions that end make room for new ones with other keys.
func TestLoginsFillTheQuota(t *testing.T) {
	b := newBooks(3)
	b.del(random()).answered(number(1), at(time.Second))
	gone := b.ended[0]
	b.set(random()).answered(status("OK"), at(2*time.Second))
	wantFound(t, b)
	if b.vacant() != 0 {
		t.Errorf("%d sessions are missing", b.vacant())
	}
	for _, s := range b.live {
		if s.id == gone {
			t.Errorf("session %d was used again", gone)
		}
	}
}

// MGET judges each of its sessions, also when several ended.
func TestMGETJudgesEach(t *testing.T) {
	b := newBooks(4)
	cmd := b.mget(random())
	reply := testkit.Reply{Type: '*', Elems: []testkit.Reply{missing(), bulk(b.values.value(1, 1)), missing(), bulk("x")}}
	cmd.answered(reply, at(time.Second))
	wantFound(t, b, "nobody wrote", "session 2 is lost", "session 0 is lost")
	if len(b.live) != 2 || len(b.ended) != 2 {
		t.Errorf("live %+v, ended %v", b.live, b.ended)
	}
}

// A session with a write of unknown outcome is left alone, and may show either
// outcome at the end, but nothing else.
func TestBooksAllowEitherOutcome(t *testing.T) {
	v := newValues(1)
	for _, k := range []struct {
		name   string
		doubt  func(b *books) command
		absent string // what the books say to an absent key
		newer  string // and to the next version
	}{
		{"SET", func(b *books) command { return b.set(random()) }, "lost", ""},
		{"EXPIRE", func(b *books) command { return b.expire(random()) }, "lost", "version 2"},
		{"DEL", func(b *books) command { return b.del(random()) }, "", "version 2"},
	} {
		for _, end := range []struct {
			reply testkit.Reply
			want  string
		}{{bulk(v.value(0, 1)), ""}, {missing(), k.absent}, {bulk(v.value(0, 2)), k.newer}, {bulk(v.value(0, 3)), "version 3"}} {
			b := newBooks(1)
			k.doubt(b).doubtful()
			if len(b.live) != 0 || len(b.doubts) != 1 || b.vacant() != 1 {
				t.Fatalf("%s: %d live, %d in doubt", k.name, len(b.live), len(b.doubts))
			}
			b.checks()[0].answered(end.reply, at(time.Second))
			if end.want == "" {
				wantFound(t, b)
			} else {
				wantFound(t, b, end.want)
			}
		}
	}
}

// A login of unknown outcome leaves a key with its first version, or none.
func TestLoginsMayBeInDoubt(t *testing.T) {
	v := newValues(1)
	for want, reply := range map[string]testkit.Reply{"": missing(), " ": bulk(v.value(0, 1)), "nobody wrote": bulk("x")} {
		b := openBooks(Options{Sessions: 1, Connections: 1, TTL: time.Minute, Seed: 1})[0]
		b.login().doubtful()
		b.checks()[0].answered(reply, at(time.Second))
		if strings.TrimSpace(want) == "" {
			wantFound(t, b)
		} else {
			wantFound(t, b, want)
		}
	}
}

// The final check finds lost sessions, deadlines that were moved back or lost, and
// ended sessions that are back.
func TestFinalChecks(t *testing.T) {
	for _, k := range []struct {
		name  string
		value testkit.Reply
		pttl  int64
		found []string
	}{
		{"all is well", testkit.Reply{}, 50_000, nil},
		{"lost", missing(), -2, []string{"lost", "no key"}},
		{"an EXPIRE was lost", testkit.Reply{}, 48_000, []string{"earlier than was acknowledged"}},
		{"too long", testkit.Reply{}, 52_000, []string{"later than was asked for"}},
		{"endless", testkit.Reply{}, -1, []string{"lost its deadline"}},
	} {
		b := newBooks(1)
		if k.value.Type == 0 {
			k.value = bulk(b.values.value(0, 1))
		}
		checks := b.checks()
		checks[0].answered(k.value, at(10*time.Second))
		checks[1].answered(number(k.pttl), at(10*time.Second))
		t.Run(k.name, func(t *testing.T) { wantFound(t, b, k.found...) })
	}
	b := newBooks(3)
	for range 2 {
		b.del(random()).answered(number(1), at(time.Second))
	}
	checks := b.checks()
	back := testkit.Reply{Type: '*', Elems: []testkit.Reply{missing(), bulk(b.values.value(b.ended[1], 1))}}
	checks[len(checks)-1].answered(back, at(2*time.Second))
	wantFound(t, b, "is back")
}

// Connections share out all sessions, and no two use the same one.
func TestBooksDoNotOverlap(t *testing.T) {
	all := openBooks(Options{Sessions: 10, Connections: 3, TTL: time.Second})
	sum, seen := 0, map[string]bool{}
	for _, b := range all {
		sum += b.quota
		for range 5 {
			key := b.login().args[1]
			if seen[key] {
				t.Errorf("two connections use %s", key)
			}
			seen[key] = true
		}
	}
	if sum != 10 {
		t.Errorf("%d sessions in all books, want 10", sum)
	}
}
