package integration_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// judge reports what a client on Holdfast has suffered and should not have.
func (s *story) judge(t testing.TB, c *liveClient) {
	t.Helper()
	if (c.limit > outageLimit) != (c.why != "") {
		t.Errorf("%s: a longer outage without a reason", c.name)
	}
	if n, _ := c.books(); n == 0 { // the audit has told of what is lost
		t.Errorf("%s: no increment was acknowledged", c.name)
	}
	for _, name := range judged {
		if err := s.verdict(c, name); err != nil {
			t.Error(err)
		}
	}
}

// verdict is what a client has suffered and should not have, each time that the phase
// was told.
func (s *story) verdict(c *liveClient, name string) error {
	var err error
	for i, p := range s.phases {
		if p.name != name {
			continue
		}
		if err = s.suffered(c, i); err == nil {
			return nil
		}
	}
	return err
}

// suffered is what a client should not have in the phase with the index.
func (s *story) suffered(c *liveClient, i int) error {
	p, limit := s.phases[i], max(c.limit, outageLimit)
	took := c.outage(p.from, s.until(i))
	if err := testkit.Check(took <= limit, "%s: an outage of %v in the phase %q, want at most %v", c.name, took.Round(time.Millisecond), p.name, limit); err != nil {
		return err
	}
	failed := c.failed(p.from, s.until(i))
	return testkit.Check(p.name != phaseHandover || c.fails != "" || len(failed) == 0,
		"%s: increments failed although the master moved by plan: %v", c.name, failed)
}

// outages are the longest ones of a client by phase, each in the telling in which that
// was the shortest.
func (s *story) outages(c *liveClient) map[string]time.Duration {
	list := map[string]time.Duration{}
	for i, p := range s.phases {
		took := c.outage(p.from, s.until(i))
		if before, ok := list[p.name]; !ok || took < before {
			list[p.name] = took
		}
	}
	return list
}

// until is when a phase ended, or the present if none has begun since.
func (s *story) until(i int) time.Duration {
	switch {
	case i+1 < len(s.phases):
		return s.phases[i+1].from
	case s.end > 0:
		return s.end
	}
	return testkit.Now()
}

// describe is a line for each phase in which increments of a client failed.
func (s *story) describe(c *liveClient) string {
	var b strings.Builder
	for i, p := range s.phases {
		if p.name == phaseApart {
			continue
		}
		fmt.Fprintf(&b, "\n    %-16s outage %4d ms, failures %v", p.name+":", c.outage(p.from, s.until(i)).Milliseconds(), c.failed(p.from, s.until(i)))
	}
	return b.String()
}

// outageTable is what each client has seen on each system.
type outageTable struct {
	rows []*outageRow // in the order of the clients
}

// outageRow is one client's line.
type outageRow struct {
	library library
	ours    *seen
	real    *seen // nil if the real Redis was not asked
}

// seen is what one client has seen of one system.
type seen struct {
	outages            map[string]time.Duration // by phase
	acknowledged, lost int
}

// add takes down what the clients of a story have seen, and logs it.
func (o *outageTable) add(t testing.TB, s *story) {
	t.Helper()
	for _, c := range s.clients {
		row := o.row(c.library)
		got := &seen{outages: s.outages(c)}
		got.acknowledged, got.lost = c.books()
		if s.system.real {
			row.real = got
		} else {
			row.ours = got
		}
		t.Logf("%s on %s: %d acknowledged, %d lost%s", c.name, s.system.name, got.acknowledged, got.lost, s.describe(c))
	}
}

func (o *outageTable) row(l library) *outageRow {
	for _, r := range o.rows {
		if r.library.name == l.name {
			return r
		}
	}
	r := &outageRow{library: l}
	o.rows = append(o.rows, r)
	return r
}

// longest is the longest outage in the given phases.
func (s *seen) longest(phases ...string) time.Duration {
	longest := time.Duration(0)
	for _, p := range phases {
		longest = max(longest, s.outages[p])
	}
	return longest
}

// compare reports clients that the real Redis keeps waiting for less after a crash; a
// second is allowed to those whose own pauses decide. A move is not compared: there the
// real one goes on acknowledging what it then throws away.
func (o *outageTable) compare(t testing.TB) {
	t.Helper()
	for _, r := range o.rows {
		ours, theirs := r.ours.longest(phaseCrash), r.real.longest(phaseCrash)
		if r.library.why != "" {
			theirs += time.Second
		}
		if ours > theirs {
			t.Errorf("%s: an outage of %v after a crash, with the real Redis %v", r.library.name, ours, r.real.longest(phaseCrash))
		}
	}
}

// String is the table as it stands in docs/clients.md.
func (o *outageTable) String() string {
	var b strings.Builder
	b.WriteString("| client | version | crash | moves | majority back | lost | crash, Redis | moves, Redis | majority back, Redis | lost, Redis |\n")
	b.WriteString("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, r := range o.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.library.name, r.library.version, r.ours, r.real)
	}
	return b.String()
}

// String is four cells of the table.
func (s *seen) String() string {
	if s == nil {
		return "– | – | – | –"
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
	return strings.Join([]string{
		seconds(s.longest(phaseCrash)), seconds(s.longest(phaseLoss, phaseLoss2, phaseHandover)), seconds(s.longest(phaseBack)),
		fmt.Sprintf("%d of %d", s.lost, s.acknowledged),
	}, " | ")
}

// The table's place in the document.
const (
	tableBegin = "<!-- outages: written by go test -run EveryClient ./integration -write-outages -->\n"
	tableEnd   = "<!-- end of outages -->\n"
)

// write puts the table into docs/clients.md.
func (o *outageTable) write(t testing.TB) {
	t.Helper()
	path := filepath.Join(testkit.Root(), "docs", "clients.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("no place for the table in %s", path)
	}
	text = []byte(before + tableBegin + o.String() + tableEnd + after)
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// withLimit is the test's context with a limit of time.
func withLimit(t testing.TB, limit time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), limit)
}

// goProgram builds a Go program of clients/ for this test.
func goProgram(t testing.TB, folder string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), filepath.Base(folder))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, "./integration/clients/"+folder)
	cmd.Dir = testkit.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", folder, err, out)
	}
	return path
}
