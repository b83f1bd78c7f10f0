package store

// warmMost is how many keys are looked up side by side.
const warmMost = 64

// Warm reads what a lookup of the keys in the selected database will read, and
// changes nothing; a nil key is passed over. A lookup is a chain of four or five
// reads from all over the memory, each of which waits for the one before. Here those
// of all keys are made one stage at a time, and the processor waits for many at once.
// It is worth its while from a few keys on, just before they are looked up.
func (r *Reader) Warm(keys [][]byte) {
	ks := r.keys()
	if ks.len == 0 {
		return
	}
	var hashes [warmMost]uint64
	var heads [warmMost]*Entry
	for len(keys) > 0 {
		n := min(len(keys), warmMost)
		for i, key := range keys[:n] {
			hashes[i] = r.store.seeds.hash(key)
		}
		ks.heads(hashes[:n], heads[:n])
		touch(heads[:n])
		keys = keys[n:]
	}
}

// heads sets into to the first entries of the buckets for the hashes.
func (ks *keyspace) heads(hashes []uint64, into []*Entry) {
	for i, hash := range hashes {
		into[i] = nil
		if sh := &ks.table.shards[shardOf(hash)]; sh.len > 0 {
			into[i] = sh.buckets[sh.bucketOf(hash)]
		}
	}
}

// touch reads the entries, and the beginning of their keys and values. It returns
// something made of all that was read, so that the compiler leaves the reads in.
//
//go:noinline
func touch(entries []*Entry) (sum uint64) {
	for _, e := range entries {
		if e != nil {
			sum += e.hash + uint64(len(e.value.str)) // they lie in two lines
		}
	}
	for _, e := range entries {
		if e == nil {
			continue
		}
		if len(e.key) > 0 {
			sum += uint64(e.key[0])
		}
		if len(e.value.str) > 0 {
			sum += uint64(e.value.str[0])
		}
	}
	return sum
}
