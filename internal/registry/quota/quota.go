// Package quota shares out what is scarce, such as bytes in memory: among all users
// together, the namespaces, and each user. A quota only counts; callers give back what
// they took.
//
//	if full := held.Take(owner, 1<<20); full != quota.Free {
//		// refuse it, and say that the limit of full is reached
//	}
//	defer held.Add(owner, -1<<20)
//
// Users and ServiceAccounts are cheap to make, so a bound for each of them protects
// no other user. Each namespace therefore has a share of its own. It can take more, but
// only from the first half of the whole: the other half stays for other namespaces.
package quota

import "sync"

// Owner is for whom something is counted.
type Owner struct{ Namespace, User string }

// Bounds are what may be taken at the same time. 0 is no bound.
type Bounds struct {
	// All bounds everything, and User what one user takes in all namespaces.
	All, User int64
	// Namespace is what the owners in one namespace can take, whatever others have
	// taken, unless the shares of all namespaces are more than All.
	Namespace int64
}

// Of returns the bounds of a whole of that size, of which a namespace has that share.
func Of(all int64, share float64) Bounds {
	return Bounds{All: all, User: all / 4, Namespace: int64(float64(all) * share)}
}

// Full says which bound is reached, as the subject of a sentence.
type Full string

// Which bound is reached.
const (
	Free        Full = ""
	OfAll       Full = "all users together"
	OfNamespace Full = "the users of the namespace"
	OfUser      Full = "the user"
)

// Quota counts what is taken. It is safe for concurrent use.
type Quota struct {
	bounds Bounds

	mu         sync.Mutex // guards what follows
	taken      int64
	namespaces map[string]int64
	users      map[string]int64
}

// New returns a quota of which nothing is taken.
func New(bounds Bounds) *Quota {
	return &Quota{bounds: bounds, namespaces: map[string]int64{}, users: map[string]int64{}}
}

// Take counts n more, unless that would exceed a bound.
func (q *Quota) Take(owner Owner, n int64) Full {
	q.mu.Lock()
	defer q.mu.Unlock()
	if full := q.bounds.reached(q, owner, n); full != Free {
		return full
	}
	q.add(owner, n)
	return Free
}

// TakeSpare is Take of what is not urgent: it leaves the second half of each bound to others.
func (q *Quota) TakeSpare(owner Owner, n int64) Full {
	q.mu.Lock()
	defer q.mu.Unlock()
	if full := q.bounds.half().reached(q, owner, n); full != Free {
		return full
	}
	q.add(owner, n)
	return Free
}

// half returns half of each bound.
func (b Bounds) half() Bounds {
	half := func(bound int64) int64 {
		if bound <= 1 { // 0 would be no bound
			return bound
		}
		return bound / 2
	}
	return Bounds{All: half(b.All), User: half(b.User), Namespace: half(b.Namespace)}
}

func (b Bounds) reached(q *Quota, owner Owner, n int64) Full {
	exceeds := func(taken, bound int64) bool { return bound > 0 && taken+n > bound }
	switch {
	case exceeds(q.users[owner.User], b.User):
		return OfUser
	case exceeds(q.namespaces[owner.Namespace], b.Namespace) && exceeds(q.taken, b.All/2):
		return OfNamespace
	case exceeds(q.taken, b.All):
		return OfAll
	}
	return Free
}

// Add counts n whatever the bounds. A negative n gives back what was counted.
func (q *Quota) Add(owner Owner, n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.add(owner, n)
}

func (q *Quota) add(owner Owner, n int64) {
	q.taken += n
	count(q.namespaces, owner.Namespace, n)
	count(q.users, owner.User, n)
}

// count forgets what comes to 0, so that the map does not grow.
func count(counts map[string]int64, of string, n int64) {
	if counts[of] += n; counts[of] == 0 {
		delete(counts, of)
	}
}
