// Package history remembers who used the pools, for what, and how that ended.
//
//	entry := uses.Begin(use, traffic.Bytes)
//	...
//	entry.End(func(u *live.Use) { u.Outcome = live.OutcomeCompleted })
//	...
//	newest := uses.List("team")
//
// What runs is always remembered; its number has a bound elsewhere. Of what has ended,
// each namespace has its newest uses, at most PerNamespace. If all together take too much
// memory, the oldest of the namespace that takes most are forgotten: so no tenant can push
// out what others have done, unless they have more.
//
// Trade-offs: it is in the memory of this process and begins anew with it. The audit
// lines in the operator's log are what lasts.
package history

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/list"
)

const (
	// PerNamespace is how many uses that have ended are remembered of a namespace.
	PerNamespace = 1000
	// maxWord bounds each word of a use, in bytes, and maxCommand the words of its command.
	maxWord    = 512
	maxCommand = 2048
	// batch is how many uses are forgotten at a time when memory is short, so that the
	// largest namespace need not be looked for each time.
	batch = 16
)

// History is what is remembered. It is safe for concurrent use.
type History struct {
	bytes int64

	mu sync.Mutex // guards what follows; nothing waits under it
	// begun counts the uses, which are numbered by it. held is the size of those that have ended.
	begun      uint64
	held       int64
	namespaces map[string]*namespace
	// prefix distinguishes names of this process from those of an earlier one.
	prefix string
}

// namespace is the uses of one namespace: those that run, and those that have ended in
// the order of their ends.
type namespace struct {
	name           string
	running, ended list.List[*Entry]
	held           int64
}

// Entry is one use.
type Entry struct {
	history *History
	element list.Element[*Entry]
	number  uint64
	size    int64
	began   time.Time
	// use does not change any more once it has ended.
	use live.Use
	// traffic returns what went to the target and what came from it; nil once it has ended.
	traffic func() (in, out int64)
}

// New returns a history that takes about that many bytes for what has ended.
func New(bytes int64) *History {
	return &History{
		bytes: bytes, namespaces: map[string]*namespace{},
		prefix: strconv.FormatInt(time.Now().Unix(), 36),
	}
}

// Begin remembers a use that runs. Its namespace, pool and user are set. traffic may be nil.
func (h *History) Begin(use live.Use, traffic func() (in, out int64)) *Entry {
	e := h.entry(use)
	e.use.State, e.traffic = live.UseRunning, traffic
	h.mu.Lock()
	defer h.mu.Unlock()
	h.number(e)
	h.of(e).running.PushBack(&e.element)
	return e
}

// Refuse remembers a use of which nothing was started.
func (h *History) Refuse(use live.Use) {
	e := h.entry(use)
	e.use.State, e.use.EndTime = live.UseRefused, new(e.use.CreationTimestamp)
	e.measure()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.number(e)
	h.keep(e)
}

// End takes how the use ended, once. A nil entry is none.
func (e *Entry) End(how func(*live.Use)) {
	if e == nil {
		return
	}
	e.history.mu.Lock()
	defer e.history.mu.Unlock()
	if e.use.State != live.UseRunning {
		return
	}
	e.observe(time.Now())
	e.traffic = nil
	how(&e.use)
	e.use.State, e.use.EndTime = live.UseEnded, new(metav1.Now())
	e.measure()
	e.element.Leave()
	e.history.keep(e)
}

// observe brings up to date what changes while the use runs.
func (e *Entry) observe(now time.Time) {
	e.use.DurationMicroseconds = now.Sub(e.began).Microseconds()
	if e.traffic != nil {
		e.use.BytesIn, e.use.BytesOut = e.traffic()
	}
}

// entry returns an entry of a use, which holds no more of the request's memory than its
// own words.
func (h *History) entry(use live.Use) *Entry {
	now := time.Now()
	e := &Entry{history: h, began: now, use: use}
	e.element.Value = e
	e.use.TypeMeta = metav1.TypeMeta{APIVersion: live.GroupVersion.String(), Kind: "Use"}
	e.use.CreationTimestamp = metav1.NewTime(now)
	for _, word := range e.words() {
		*word = own(*word)
	}
	e.use.Command = ownWords(use.Command)
	return e
}

// words are those of a use that others have chosen.
func (e *Entry) words() []*string {
	u := &e.use
	return []*string{
		&u.Namespace, &u.Pool, &u.Target, &u.User, &u.Session, &u.Container, &u.Pod, &u.PodNamespace,
		&u.Method, &u.Path, &u.Host, &u.Socket, &u.RequestID, &u.Message,
	}
}

func own(word string) string {
	if len(word) > maxWord {
		return strings.ToValidUTF8(word[:maxWord], "") + "..."
	}
	return strings.Clone(word)
}

// ownWords returns the words of a command, of a long one the beginning.
func ownWords(words []string) (all []string) {
	left := maxCommand
	for _, word := range words {
		if left -= len(word) + int(unsafe.Sizeof(word)); left < 0 {
			return append(all, "...")
		}
		all = append(all, own(word))
	}
	return all
}

// measure finds out how much memory the entry takes.
func (e *Entry) measure() {
	e.size = int64(unsafe.Sizeof(*e)) + int64(len(e.use.Name)+len(e.use.Connection))
	for _, word := range e.words() {
		e.size += int64(len(*word))
	}
	for _, word := range e.use.Command {
		e.size += int64(len(word)) + int64(unsafe.Sizeof(word))
	}
}

// number gives an entry its number and its name. The caller holds mu, and so do those of
// the methods below.
func (h *History) number(e *Entry) {
	h.begun++
	e.number = h.begun
	e.use.Name = e.use.Pool + "-" + h.prefix + "-" + strconv.FormatUint(e.number, 36)
}

func (h *History) of(e *Entry) *namespace {
	n := h.namespaces[e.use.Namespace]
	if n == nil {
		n = &namespace{name: e.use.Namespace}
		h.namespaces[e.use.Namespace] = n
	}
	return n
}

// keep remembers a use that has ended, and forgets others for it.
func (h *History) keep(e *Entry) {
	n := h.of(e)
	n.ended.PushBack(&e.element)
	n.held += e.size
	h.held += e.size
	if n.ended.Len > PerNamespace {
		h.forget(n, 1)
	}
	for h.held > h.bytes {
		h.forget(h.largest(), batch)
	}
}

// largest returns the namespace whose uses take most.
func (h *History) largest() (largest *namespace) {
	for _, n := range h.namespaces {
		if largest == nil || n.held > largest.held {
			largest = n
		}
	}
	return largest
}

func (h *History) forget(n *namespace, oldest int) {
	for ; oldest > 0 && n.ended.Head != nil; oldest-- {
		e := n.ended.Head.Value
		e.element.Leave()
		n.held -= e.size
		h.held -= e.size
	}
	if n.running.Len+n.ended.Len == 0 {
		delete(h.namespaces, n.name)
	}
}

// Numbered is a use and its number: a later use has a higher one.
type Numbered struct {
	live.Use

	Number uint64
}

// List returns the uses of a namespace, or of all if it is empty, the newest first.
func (h *History) List(of string) []Numbered {
	var all []Numbered
	h.mu.Lock()
	now := time.Now()
	for name, n := range h.namespaces {
		if of != "" && name != of {
			continue
		}
		for _, uses := range []*list.List[*Entry]{&n.running, &n.ended} {
			for element := uses.Head; element != nil; element = element.Next {
				all = append(all, element.Value.snapshot(now))
			}
		}
	}
	h.mu.Unlock()
	slices.SortFunc(all, func(a, b Numbered) int {
		if a.Number > b.Number {
			return -1
		}
		return 1
	})
	return all
}

// snapshot returns the use as it is now. What it points to does not change.
func (e *Entry) snapshot(now time.Time) Numbered {
	if e.use.State == live.UseRunning {
		e.observe(now)
	}
	return Numbered{e.use, e.number}
}
