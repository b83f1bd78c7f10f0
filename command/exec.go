package command

import (
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// ApplyExec runs the body of an EXEC as one unit and answers with the replies of
// its commands, or with a null array and without any effect if a watched key has
// changed. Each command stands or falls by itself: guard calls run once, takes
// the command back (store.Tx.Undo) if it panics, and returns the reply. Local
// commands, which the connection answers, have None in their places.
func ApplyExec(tx *store.Tx, e *Exec, guard func(run func() resp.Value) resp.Value) resp.Value {
	if !e.unchanged(&tx.Reader) {
		return resp.NullArray
	}
	replies := make([]resp.Value, len(e.Queue))
	for i := range e.Queue {
		q := &e.Queue[i]
		replies[i] = guard(func() resp.Value {
			if q.DB >= tx.Databases() {
				return resp.Err(resp.ErrDBIndex)
			}
			tx.Begin(q.DB)
			if q.Spec.Do.Apply != nil {
				return q.Spec.Do.Apply(tx, q.Args)
			}
			return q.read(&tx.Reader)
		})
	}
	return resp.Array(replies...)
}

// ReadExec is ApplyExec for a body of Read and Local commands only.
func ReadExec(r *store.Reader, e *Exec) resp.Value {
	if !e.unchanged(r) {
		return resp.NullArray
	}
	replies := make([]resp.Value, len(e.Queue))
	for i := range e.Queue {
		replies[i] = e.Queue[i].readIn(r)
	}
	return resp.Array(replies...)
}

// unchanged tells whether all watched keys have the versions that WATCH saw. A
// key that became due since counts as changed.
func (e *Exec) unchanged(r *store.Reader) bool {
	for i := range e.Watch {
		w := &e.Watch[i]
		if w.DB >= r.Databases() {
			return false
		}
		r.Use(w.DB)
		if r.Version(w.Key) != w.Version {
			return false
		}
	}
	return true
}

// readIn runs a Read in the database of the queued command.
func (q *Queued) readIn(r *store.Reader) resp.Value {
	if q.DB >= r.Databases() {
		return resp.Err(resp.ErrDBIndex)
	}
	r.Use(q.DB)
	return q.read(r)
}

func (q *Queued) read(r *store.Reader) resp.Value {
	if q.Spec.Do.Read == nil {
		return resp.None
	}
	return q.Spec.Do.Read(r, q.Args)
}
