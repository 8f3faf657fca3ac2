// Package quota bounds how many bytes are held in memory at the same time, for all users
// together and for each of them. A quota only counts; callers give back what they took.
//
//	if !held.Take("ann", 1<<20) {
//		// refuse it
//	}
//	defer held.Add("ann", -1<<20)
package quota

import "sync"

// Quota counts bytes. It is safe for concurrent use.
type Quota struct {
	// most bounds all bytes, mostUser those of one user.
	most, mostUser int64

	mu    sync.Mutex // guards what follows
	bytes int64
	users map[string]int64
}

// New returns a quota of which nothing is taken.
func New(most, mostUser int64) *Quota {
	return &Quota{most: most, mostUser: mostUser, users: map[string]int64{}}
}

// Take counts more bytes of a user, or returns false if that would exceed a bound.
func (q *Quota) Take(user string, bytes int64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.bytes+bytes > q.most || q.users[user]+bytes > q.mostUser {
		return false
	}
	q.add(user, bytes)
	return true
}

// Add counts bytes whatever the bounds. Negative ones give back what was counted.
func (q *Quota) Add(user string, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(user, bytes)
}

func (q *Quota) add(user string, bytes int64) {
	q.bytes += bytes
	if q.users[user] += bytes; q.users[user] == 0 {
		delete(q.users, user)
	}
}
