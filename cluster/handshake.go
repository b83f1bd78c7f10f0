package cluster

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// The handshake that every connection between nodes begins with. Both sides prove
// that they know the secret over everything both have said:
//
//	dialer   -> hello, with a nonce
//	acceptor -> hello, with a nonce
//	dialer   -> HMAC(key, "dialer" ‖ both hellos)
//	acceptor -> verdict, HMAC(key, "acceptor" ‖ both hellos ‖ verdict)
//
// The labels tell the directions apart, so that no proof can be sent back to the
// one who made it; the ids in the hellos keep a proof from being used between
// other nodes; the nonces keep it from being used again. The dialer proves first:
// whoever connects without the secret gets nothing to guess it from. The
// connection is not encrypted, and bytes after the handshake carry no proof.

const (
	handshakeVersion = 1
	handshakeTimeout = 2 * time.Second
	nonceSize        = 32
	anyNode          = "-" // whoever answers at an address; only to ask about membership
	maxKind          = 16
	maxCluster       = 64
)

var magic = []byte("HFN")

// hello is what each side says of itself.
type hello struct {
	kind     string // what the connection is for; the acceptor repeats it
	from, to string // node ids; to may be anyNode
	cluster  string // "" as long as the node belongs to none
	announce string // where the sender is reached
	election time.Duration
	instance [16]byte // drawn by each process, so that two with one id are told apart
	nonce    [nonceSize]byte
}

func (h *hello) encode() []byte {
	b := append(make([]byte, 0, 512), magic...)
	b = append(b, handshakeVersion)
	for _, s := range []string{h.kind, h.from, h.to, h.cluster, h.announce} {
		b = appendText(b, s)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(h.election.Milliseconds())) // bounded by check
	b = append(b, h.instance[:]...)
	return append(b, h.nonce[:]...)
}

var errVersion = errors.New("the other node speaks another version of the node protocol")

// parseHello takes a hello apart. All lengths in it are checked.
func parseHello(b []byte) (hello, error) {
	f := fields{rest: b}
	if string(f.take(len(magic))) != string(magic) {
		return hello{}, errors.New("this is no node of a cluster")
	}
	if f.byte() != handshakeVersion {
		return hello{}, errVersion
	}
	h := hello{kind: f.text(), from: f.text(), to: f.text(), cluster: f.text(), announce: f.text()}
	h.election = time.Duration(f.uint32()) * time.Millisecond
	copy(h.instance[:], f.take(len(h.instance)))
	copy(h.nonce[:], f.take(len(h.nonce)))
	if !f.done() || len(h.kind) > maxKind || !validID(h.from) || !validID(h.to) || len(h.cluster) > maxCluster {
		return hello{}, errFrame
	}
	return h, nil
}

// verdict is the acceptor's answer.
type verdict byte

const (
	accepted verdict = iota + 1
	badSecret
	wrongCluster  // both belong to clusters, and not to the same
	unformed      // one belongs to none, and the connection is not for forming
	ownID         // the dialer has the acceptor's id
	wrongNode     // the acceptor is not the node the dialer wants
	unknownNode   // the acceptor does not know the dialer's id
	duplicate     // another process with the dialer's id is alive
	unknownKind   // the acceptor does not serve such connections
	notServingYet // it will, but raft has not started
)

var verdicts = map[verdict]string{
	badSecret:     "the cluster secrets differ",
	wrongCluster:  "the nodes belong to different clusters",
	unformed:      "one of the nodes does not belong to a cluster yet",
	ownID:         "the other node has the same id",
	wrongNode:     "another node answers at this address",
	unknownNode:   "this node is not among the nodes the other one knows",
	duplicate:     "another process with this node's id is alive",
	unknownKind:   "the other node does not serve this kind of connection",
	notServingYet: "the other node is not serving yet",
}

// refusal is a verdict other than accepted, as an error of the dialer. proved
// tells whether it comes from a node that knows the secret.
type refusal struct {
	verdict verdict
	proved  bool
	cluster string // the acceptor's
}

func (r *refusal) Error() string {
	if text, ok := verdicts[r.verdict]; ok {
		return text
	}
	return fmt.Sprintf("refused with code %d", r.verdict)
}

// key derives the key of the proofs from the secret.
func key(secret string) []byte {
	sum := sha256.Sum256([]byte("holdfast node secret\x00" + secret))
	return sum[:]
}

// transcript is what both sides have said in their hellos.
func transcript(dialer, acceptor []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(dialer))) // a frame
	b = append(b, dialer...)
	return append(b, acceptor...)
}

// proof is the HMAC of one side. The label tells which.
func proof(key []byte, label string, parts ...[]byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write(appendText(nil, label))
	for _, p := range parts {
		mac.Write(p)
	}
	return mac.Sum(nil)
}

const (
	labelDialer   = "holdfast dialer"
	labelAcceptor = "holdfast acceptor"
)

// limit closes conn after handshakeTimeout, unless the returned function is called
// before. That function tells whether it was.
func limit(conn net.Conn) (inTime func() bool) {
	return time.AfterFunc(handshakeTimeout, func() { closeConn(conn) }).Stop
}

// shakeOut is the dialer's side. own is without nonce. It returns what the other
// said of itself, proved. On an error the connection is of no more use.
func shakeOut(conn net.Conn, key []byte, own hello) (hello, error) {
	inTime := limit(conn)
	peer, err := dialerSide(conn, key, own)
	if !inTime() && err == nil {
		err = errors.New("the handshake took too long")
	}
	return peer, err
}

func dialerSide(conn net.Conn, key []byte, own hello) (hello, error) {
	if _, err := rand.Read(own.nonce[:]); err != nil {
		return hello{}, fmt.Errorf("draw nonce: %w", err)
	}
	said := own.encode()
	if err := writeFrame(conn, said); err != nil {
		return hello{}, err
	}
	heard, err := readFrame(conn, make([]byte, maxFrame))
	if err != nil {
		return hello{}, err
	}
	peer, err := parseHello(heard)
	if err != nil {
		return hello{}, err
	}
	if peer.from != own.to && own.to != anyNode || peer.to != own.from || peer.kind != own.kind {
		return hello{}, &refusal{verdict: wrongNode}
	}
	script := transcript(said, heard)
	if err := writeFrame(conn, proof(key, labelDialer, script)); err != nil {
		return hello{}, err
	}
	answer, err := readFrame(conn, make([]byte, 1+sha256.Size))
	if err != nil {
		return hello{}, err
	}
	proved := hmac.Equal(answer[1:], proof(key, labelAcceptor, script, answer[:1]))
	switch v := verdict(answer[0]); {
	case v != accepted:
		return hello{}, &refusal{verdict: v, proved: proved, cluster: peer.cluster}
	case !proved:
		return hello{}, &refusal{verdict: badSecret}
	}
	return peer, nil
}

// shakeIn is the acceptor's side. own is without nonce, kind and to. judge says
// what to make of a dialer that has proved the secret. The error of a refused
// dialer is a *refusal; what it said of itself is returned with it.
func shakeIn(conn net.Conn, key []byte, own hello, judge func(hello) verdict) (hello, error) {
	inTime := limit(conn)
	peer, err := acceptorSide(conn, key, own, judge)
	if !inTime() && err == nil {
		err = errors.New("the handshake took too long")
	}
	return peer, err
}

func acceptorSide(conn net.Conn, key []byte, own hello, judge func(hello) verdict) (hello, error) {
	heard, err := readFrame(conn, make([]byte, maxFrame))
	if err != nil {
		return hello{}, err
	}
	peer, err := parseHello(heard)
	if err != nil {
		return hello{}, err
	}
	if _, err := rand.Read(own.nonce[:]); err != nil {
		return hello{}, fmt.Errorf("draw nonce: %w", err)
	}
	own.kind, own.to = peer.kind, peer.from
	said := own.encode()
	if err := writeFrame(conn, said); err != nil {
		return hello{}, err
	}
	script := transcript(heard, said)
	claim, err := readFrame(conn, make([]byte, sha256.Size))
	if err != nil {
		return hello{}, err
	}
	if !hmac.Equal(claim, proof(key, labelDialer, script)) {
		_ = writeFrame(conn, append([]byte{byte(badSecret)}, make([]byte, sha256.Size)...)) // a courtesy
		return peer, &refusal{verdict: badSecret}
	}
	v := judge(peer)
	answer := append([]byte{byte(v)}, proof(key, labelAcceptor, script, []byte{byte(v)})...)
	if err := writeFrame(conn, answer); err != nil {
		return peer, err
	}
	if v != accepted {
		return peer, &refusal{verdict: v, proved: true, cluster: peer.cluster}
	}
	return peer, nil
}
