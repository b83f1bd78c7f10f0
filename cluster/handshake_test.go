package cluster

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// pipe is both ends of a connection that buffers, as TCP does.
func pipe(t *testing.T) (dialer, acceptor net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialer, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	acceptor, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dialer.Close()
		_ = acceptor.Close()
	})
	return dialer, acceptor
}

func helloOf(from, to, kind string) hello {
	return hello{kind: kind, from: from, to: to, cluster: "c1", announce: from + ":1", election: time.Second, instance: [16]byte{1}}
}

// shake lets a dialer with one secret meet an acceptor with another.
func shake(t *testing.T, dialSecret, acceptSecret string, out hello, judge func(hello) verdict) (heard hello, dialErr, acceptErr error) {
	t.Helper()
	d, a := pipe(t)
	done := make(chan error, 1)
	var said hello
	go func() {
		var err error
		said, err = shakeIn(a, key(acceptSecret), helloOf("n2", "", ""), judge)
		done <- err
	}()
	_, dialErr = shakeOut(d, key(dialSecret), out)
	acceptErr = <-done
	return said, dialErr, acceptErr
}

func acceptAll(hello) verdict { return accepted }

// Nodes with the same secret accept each other and hear what the other said.
func TestHandshakeAcceptsTheSameSecret(t *testing.T) {
	out := helloOf("n1", "n2", "probe")
	heard, dialErr, acceptErr := shake(t, "s", "s", out, acceptAll)
	if dialErr != nil || acceptErr != nil {
		t.Fatal(dialErr, acceptErr)
	}
	if heard.from != "n1" || heard.kind != "probe" || heard.cluster != "c1" || heard.announce != "n1:1" || heard.election != time.Second || heard.instance != out.instance {
		t.Errorf("heard %+v", heard)
	}
}

// A dialer with another secret is refused by both sides, and whoever judges ids and
// clusters is not even asked.
func TestHandshakeRefusesAnotherSecret(t *testing.T) {
	_, dialErr, acceptErr := shake(t, "s", "other", helloOf("n1", "n2", "probe"), func(hello) verdict {
		t.Error("asked about a dialer without the secret")
		return accepted
	})
	for _, err := range []error{dialErr, acceptErr} {
		var r *refusal
		if !errors.As(err, &r) || r.verdict != badSecret {
			t.Errorf("got %v, want a refusal of the secret", err)
		}
	}
	var r *refusal
	if errors.As(dialErr, &r) && r.proved {
		t.Error("a refusal by someone without the secret counts as proved")
	}
}

// What the acceptor decides reaches the dialer, proved.
func TestHandshakeTellsTheVerdict(t *testing.T) {
	for v := range verdicts {
		if v == badSecret {
			continue
		}
		_, dialErr, acceptErr := shake(t, "s", "s", helloOf("n1", "n2", "raft"), func(hello) verdict { return v })
		for _, err := range []error{dialErr, acceptErr} {
			var r *refusal
			if !errors.As(err, &r) || r.verdict != v || !r.proved {
				t.Errorf("verdict %d: got %v", v, err)
			}
		}
	}
}

// A dialer finds out that another node answers at the address.
func TestDialerRefusesAnotherNode(t *testing.T) {
	d, a := pipe(t)
	go func() { _, _ = shakeIn(a, key("s"), helloOf("n2", "", ""), acceptAll) }()
	_, err := shakeOut(d, key("s"), helloOf("n1", "n3", "raft"))
	var r *refusal
	if !errors.As(err, &r) || r.verdict != wrongNode {
		t.Errorf("got %v", err)
	}
}

// An intruder who sends an acceptor its own bytes back does not get in: the proof
// of the dialer's side is not one of the acceptor's side.
func TestReflectedProofIsRefused(t *testing.T) {
	d, a := pipe(t)
	done := make(chan error, 1)
	go func() {
		_, err := shakeIn(a, key("s"), helloOf("n2", "", ""), acceptAll)
		done <- err
	}()
	out := helloOf("n1", "n2", "raft")
	if err := writeFrame(d, out.encode()); err != nil {
		t.Fatal(err)
	}
	// A victim node is made to dial the intruder, who passes its proof on: made over
	// other nonces, it is worth nothing.
	d2, a2 := pipe(t)
	go func() { _, _ = shakeOut(d2, key("s"), helloOf("n1", "n2", "raft")) }()
	if _, err := readFrame(a2, make([]byte, maxFrame)); err != nil {
		t.Fatal(err)
	}
	heard, err := readFrame(d, make([]byte, maxFrame))
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFrame(a2, heard); err != nil {
		t.Fatal(err)
	}
	stolen, err := readFrame(a2, make([]byte, maxFrame))
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFrame(d, stolen); err != nil {
		t.Fatal(err)
	}
	var r *refusal
	if err := <-done; !errors.As(err, &r) || r.verdict != badSecret {
		t.Errorf("got %v", err)
	}
}

// A proof of one side is none of the other, even over the same transcript.
func TestProofsTellDirectionsApart(t *testing.T) {
	k, script := key("s"), transcript([]byte("a"), []byte("b"))
	if bytes.Equal(proof(k, labelDialer, script), proof(k, labelAcceptor, script)) {
		t.Error("both directions have one proof")
	}
	if bytes.Equal(transcript([]byte("ab"), []byte("c")), transcript([]byte("a"), []byte("bc"))) {
		t.Error("the transcript does not tell where one hello ends")
	}
}

// A connection that sends nothing is closed after the deadline.
func TestSilentDialerIsDropped(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the deadline of two seconds")
	}
	t.Parallel()
	_, a := pipe(t)
	if _, err := shakeIn(a, key("s"), helloOf("n2", "", ""), acceptAll); err == nil {
		t.Error("a silent dialer was accepted")
	}
}

// script is a connection that reads from bytes and drops what is written.
type script struct {
	net.Conn
	r io.Reader
}

func (s script) Read(b []byte) (int, error)  { return s.r.Read(b) }
func (s script) Write(b []byte) (int, error) { return len(b), nil }
func (s script) Close() error                { return nil }

// Whatever is sent to the raft port, nobody without the secret is accepted and
// nothing breaks.
func FuzzHandshake(f *testing.F) {
	h := helloOf("n1", "n2", "raft")
	var good bytes.Buffer
	_ = writeFrame(&good, h.encode())
	_ = writeFrame(&good, make([]byte, 32))
	f.Add(good.Bytes())
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 1})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := shakeIn(script{r: bytes.NewReader(b)}, key("s"), helloOf("n2", "", ""), acceptAll); err == nil {
			t.Error("accepted without the secret")
		}
		if _, err := shakeOut(script{r: bytes.NewReader(b)}, key("s"), h); err == nil {
			t.Error("an acceptor without the secret was believed")
		}
	})
}

// A hello that can be read says the same when written again.
func FuzzHello(f *testing.F) {
	h := helloOf("n1", "n2", "raft")
	f.Add(h.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err != nil {
			return
		}
		if got := h.encode(); !bytes.Equal(got, b) {
			t.Errorf("%q became %q", b, got)
		}
	})
}

// Only two clusters that differ make strangers: a node that is forming may still have
// said that it has none when it accepts a connection as part of one.
func TestClustersAreCompared(t *testing.T) {
	for _, c := range []struct {
		own, other, kind string
		want             verdict
	}{
		{"C", "C", kindRaft, accepted},
		{"C", "D", kindRaft, wrongCluster},
		{"C", "D", kindForm, wrongCluster},
		{"C", "", kindProbe, unformed},
		{"", "C", kindProbe, unformed},
		{"", "", kindRaft, unformed},
		{"C", "", kindForm, accepted},
		{"", "C", kindForm, accepted},
		{"", "", kindForm, accepted},
		{"C", "", kindMember, accepted},
		{"", "C", kindMember, unformed},
		{"C", "D", kindMember, wrongCluster},
	} {
		if got := compare(c.own, c.other, c.kind); got != c.want {
			t.Errorf("%q and %q for %s: %v, want %v", c.own, c.other, c.kind, got, c.want)
		}
	}
}
