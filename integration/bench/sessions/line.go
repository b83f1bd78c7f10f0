package sessions

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

const (
	// batchSize is how many commands are pipelined while filling and verifying: about
	// a hundred kilobytes.
	batchSize = 100
	// batchLimit bounds the wait for the replies of a batch.
	batchLimit = 20 * time.Second
	// mostLost is how many of its connections a line may lose with writes under way.
	mostLost = 20
)

// line is a connection to the master while no fault is under way. Should it be lost, by an
// election that nobody has asked for, another one is made. It is for one goroutine.
type line struct {
	find func() (string, error) // the master's address
	conn *testkit.Client        // nil when not connected
	lost int
}

func (l *line) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn = nil
	}
}

// send sends commands as one pipeline and has every reply judged. What was not executed,
// and reads without an answer, are sent again; other writes without one are in doubt. No
// other error is expected.
func (l *line) send(ctx context.Context, batch []command) error {
	ctx, cancel := context.WithTimeout(ctx, masterLimit)
	defer cancel()
	var wrong final
	err := testkit.Poll(ctx, func() error {
		left, why := l.try(batch)
		if errors.As(why, &wrong) {
			return nil
		}
		batch = left
		return why
	})
	if wrong.error != nil {
		return wrong
	}
	return err
}

// final is an error after which nothing is sent again.
type final struct{ error }

// try sends commands once. It returns those that are to be sent again, and why.
func (l *line) try(batch []command) (left []command, err error) {
	if err := l.connect(); err != nil {
		return batch, err
	}
	args := make([][]string, len(batch))
	for i, cmd := range batch {
		args[i] = cmd.args
	}
	sent := testkit.Now()
	replies, err := l.conn.Pipeline(args...)
	at := span{sent, testkit.Now()}
	doubts := 0
	for i, cmd := range batch {
		outcome, why := testkit.Unknown, err
		if i < len(replies) {
			why = replies[i].Err()
			outcome = testkit.OutcomeOf(testkit.ReplyError(replies[i].Text))
		}
		switch {
		case why == nil:
			cmd.answered(replies[i], at)
			continue
		case outcome == testkit.Done:
			return nil, final{fmt.Errorf("%s: %w", cmd.args[0], why)}
		case outcome == testkit.Unknown && cmd.kind == write:
			cmd.doubtful()
			doubts++
		default:
			left = append(left, cmd)
		}
		err = why
	}
	if err != nil {
		l.close()
	}
	if doubts > 0 {
		if l.lost++; l.lost > mostLost {
			return nil, final{err}
		}
	}
	if len(left) == 0 {
		return nil, nil
	}
	return left, err
}

// connect finds the master if there is no connection.
func (l *line) connect() error {
	if l.conn != nil {
		return nil
	}
	addr, err := l.find()
	if err != nil {
		return err
	}
	conn, err := testkit.Dial(addr, batchLimit)
	if err == nil {
		l.conn = conn
	}
	return err
}
