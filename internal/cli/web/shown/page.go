// Package shown is what the page of `connpool web` shows, made of what the cluster has
// said: pure functions, and the history that rates and round trips need.
//
//	facts := shown.Facts{Pools: pools, Targets: targets, Connections: connections, History: history}
//	page := facts.Page(shown.Choice{Namespace: "shop", Pool: "web", Target: "web-1"})
//
// Facts may lack what the caller may not read. Then a row or a square is made of what
// the rest says about it.
//
// Trade-off: health is summed up here once more than in the package status, because
// a page has a level for each target in each pool, and a table has a word.
package shown

import (
	"cmp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	livev1alpha1 "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/cli/display"
)

// Page is what a page shows, as JSON. Times are milliseconds since 1970; 0 is none.
// Words of others have lost what is not printable.
type Page struct {
	// Waiting says that a first answer is missing.
	Waiting bool `json:"waiting,omitempty"`
	// Heard is how old the oldest part of the page is, if that is worth a word.
	Heard    int64     `json:"heard,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
	Pools    []Pool    `json:"pools"`
	Detail   *Detail   `json:"detail,omitempty"`
}

// Problem is what cannot be read.
type Problem struct {
	// What is the list that is missing: pools, targets, connections or sessions. Several
	// are joined if they fail for the same reason.
	What string `json:"what"`
	// Text says what happened, and Hint is the next step, of several lines.
	Text string `json:"text"`
	Hint string `json:"hint,omitempty"`
	// Denied says that RBAC refuses it.
	Denied bool `json:"denied,omitempty"`
}

// AddProblem adds a problem, or what it is about to one that is the same.
func (p *Page) AddProblem(problem Problem) {
	for i := range p.Problems {
		if same := &p.Problems[i]; !problem.Denied && !same.Denied && same.Hint == problem.Hint {
			same.What += ", " + problem.What
			return
		}
	}
	p.Problems = append(p.Problems, problem)
}

// Pool is a row of the page.
type Pool struct {
	Health

	Namespace string `json:"namespace"`
	// Name is "" for targets that are in no pool.
	Name string `json:"name"`
	Type string `json:"type,omitempty"`
	// Ready is how many of the Members are ready.
	Ready int `json:"ready"`
	// Warm connections, and how many the pool wants.
	Warm    int32 `json:"warm"`
	Desired int32 `json:"desired"`
	// Running is how many uses run now, and Rate how many end in a second.
	Running int32   `json:"running"`
	Rate    float64 `json:"rate"`
	// Members are the pool's targets, by name.
	Members []Member `json:"members"`
}

// Member is a target in a pool: a square.
type Member struct {
	Health

	Name     string `json:"name"`
	Endpoint string `json:"endpoint,omitempty"`
	Warm     int32  `json:"warm,omitempty"`
	Running  int32  `json:"running,omitempty"`
	// Slots is how many uses the warm connections have room for.
	Slots int32   `json:"slots,omitempty"`
	Rate  float64 `json:"rate,omitempty"`
}

// Choice is the target in a pool that a page shows in detail.
type Choice struct{ Namespace, Pool, Target string }

// Detail is what a page shows of the chosen target beside its square.
type Detail struct {
	Namespace   string       `json:"namespace"`
	Pool        string       `json:"pool"`
	Target      string       `json:"target"`
	Server      string       `json:"server,omitempty"`
	Replica     string       `json:"replica,omitempty"`
	Conditions  []Condition  `json:"conditions,omitempty"`
	Connections []Connection `json:"connections"`
	// Running are the uses that run now, and Ended those that have ended lately.
	Running []Use `json:"running"`
	Ended   []Use `json:"ended"`
	// NoUses says why only sessions are among the uses.
	NoUses string `json:"noUses,omitempty"`
}

// Condition is one of a target's conditions.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
	Since   int64  `json:"since"`
}

// Connection is a connection of the chosen target.
type Connection struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Running int32  `json:"running"`
	Uses    int64  `json:"uses"`
	Made    int64  `json:"made"`
	Used    int64  `json:"used,omitempty"`
	// RoundTrips are the newest ones, in microseconds, the newest last.
	RoundTrips []int64 `json:"roundTrips"`
	Address    string  `json:"address,omitempty"`
}

// Facts are what the cluster has said.
type Facts struct {
	Pools       []*v1alpha1.ConnectionPool
	Targets     []*v1alpha1.ConnectionTarget
	Connections []livev1alpha1.Connection
	Sessions    []livev1alpha1.Session
	// Uses are those of the chosen target, the newest first; NoUses says why they cannot
	// be read.
	Uses   []livev1alpha1.Use
	NoUses string
	// History has learned the Connections.
	History *History
	// HasConnections says that connections could be read, so that figures come from them.
	HasConnections bool
}

// key identifies a target in a pool.
type key = Choice

// figures are sums of connections.
type figures struct {
	warm, running int32
}

func (f *Facts) figures() map[key]figures {
	sums := map[key]figures{}
	for i := range f.Connections {
		c := &f.Connections[i]
		k := keyOf(c)
		sum := sums[k]
		sum.running += c.InUse
		if c.State != livev1alpha1.ConnectionDraining {
			sum.warm++
		}
		sums[k] = sum
	}
	return sums
}

func keyOf(c *livev1alpha1.Connection) key { return key{c.Namespace, c.Pool, c.Target} }

// Page returns what a page shows that has chosen a target, or none.
func (f *Facts) Page(chosen Choice) Page {
	figures := f.figures()
	rows := f.rows(figures)
	page := Page{Pools: make([]Pool, 0, len(rows))}
	for _, r := range rows {
		page.Pools = append(page.Pools, f.poolOf(r, figures))
	}
	if chosen.Target != "" {
		page.Detail = f.detail(chosen)
	}
	return page
}

// row is a pool with what is known of its targets. What the caller may not read is
// nil: the pool, or a target of which only the name is known.
type row struct {
	namespace, name string

	pool    *v1alpha1.ConnectionPool
	targets map[string]*v1alpha1.ConnectionTarget
}

// rows finds out which targets are in which pools from all that the caller may read.
func (f *Facts) rows(figures map[key]figures) []*row {
	known := map[[2]string]*row{}
	at := func(namespace, name string) *row {
		id := [2]string{namespace, name}
		if known[id] == nil {
			known[id] = &row{namespace: namespace, name: name, targets: map[string]*v1alpha1.ConnectionTarget{}}
		}
		return known[id]
	}
	selected := map[*v1alpha1.ConnectionTarget]bool{}
	for _, pool := range f.Pools {
		r := at(pool.Namespace, pool.Name)
		r.pool = pool
		selects, _ := pool.Selector() // the pool's conditions say whether it is invalid
		for _, target := range f.Targets {
			if selects(target) {
				r.targets[target.Name], selected[target] = target, true
			}
		}
		if len(f.Targets) == 0 {
			for _, failing := range pool.Status.FailingTargets {
				r.targets[failing.Name] = nil
			}
		}
	}
	for _, target := range f.Targets {
		f.placeTarget(target, at, selected)
	}
	for k := range figures {
		r := at(k.Namespace, k.Pool)
		if _, ok := r.targets[k.Target]; !ok {
			r.targets[k.Target] = nil
		}
	}
	return sorted(known)
}

// placeTarget puts a target that no pool has selected, as far as pools can be read, where
// its status says that it is.
func (f *Facts) placeTarget(
	target *v1alpha1.ConnectionTarget, at func(namespace, name string) *row, selected map[*v1alpha1.ConnectionTarget]bool,
) {
	if selected[target] {
		return
	}
	if len(f.Pools) == 0 {
		for _, share := range target.Status.Pools {
			at(target.Namespace, share.Name).targets[target.Name] = target
			selected[target] = true
		}
	}
	if !selected[target] {
		at(target.Namespace, "").targets[target.Name] = target
	}
}

// sorted returns rows by name, with those of targets that are in no pool at the end.
func sorted(known map[[2]string]*row) []*row {
	rows := make([]*row, 0, len(known))
	for _, r := range known {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *row) int {
		if (a.name == "") != (b.name == "") {
			return strings.Compare(b.name, a.name)
		}
		return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
	})
	return rows
}

func (f *Facts) poolOf(r *row, figures map[key]figures) Pool {
	p := Pool{Namespace: r.namespace, Name: r.name, Members: make([]Member, 0, len(r.targets))}
	var failing map[string]v1alpha1.FailingTarget
	if r.pool != nil {
		p.Type = string(ptr.Deref(r.pool.Status.Type, ""))
		p.Desired = ptr.Deref(r.pool.Status.Connections.Desired, 0)
		failing = make(map[string]v1alpha1.FailingTarget, len(r.pool.Status.FailingTargets))
		for _, t := range r.pool.Status.FailingTargets {
			failing[t.Name] = t
		}
	}
	for name, target := range r.targets {
		m := f.memberOf(r, name, target, figures[key{r.namespace, r.name, name}])
		if t, ok := failing[name]; ok && target == nil {
			m.Health = failingHealth(t)
		}
		p.add(m)
	}
	slices.SortFunc(p.Members, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	p.Health = healthOfPool(r.pool, p.Members)
	if r.pool != nil && !f.HasConnections {
		p.Warm = ptr.Deref(r.pool.Status.Connections.Warm, 0)
		p.Running = ptr.Deref(r.pool.Status.Connections.InUse, 0)
	}
	return p
}

func (p *Pool) add(m Member) {
	p.Members = append(p.Members, m)
	p.Warm += m.Warm
	p.Running += m.Running
	p.Rate += m.Rate
	if m.Level == LevelReady {
		p.Ready++
	}
}

func (f *Facts) memberOf(r *row, name string, target *v1alpha1.ConnectionTarget, now figures) Member {
	m := Member{Name: name, Warm: now.warm, Running: now.running, Rate: f.History.rate(key{r.namespace, r.name, name})}
	perConnection := int32(v1alpha1.DefaultSessionsPerSSHConnection)
	if target != nil {
		share := shareOf(target, r.name)
		m.Health = healthOfTarget(target, share)
		m.Endpoint = display.OneLine(ptr.Deref(target.Status.Endpoint, ""))
		if r.pool != nil {
			perConnection = r.pool.Spec.SessionsOn(target.Spec.Type())
		}
		if share != nil && !f.HasConnections {
			m.Warm, m.Running = ptr.Deref(share.Connections.Warm, 0), ptr.Deref(share.Connections.InUse, 0)
		}
	} else {
		m.Health = healthByFigures(now)
	}
	m.Slots = m.Warm * perConnection
	return m
}

func shareOf(target *v1alpha1.ConnectionTarget, pool string) *v1alpha1.TargetPoolStatus {
	for i := range target.Status.Pools {
		if target.Status.Pools[i].Name == pool {
			return &target.Status.Pools[i]
		}
	}
	return nil
}

func (f *Facts) detail(chosen Choice) *Detail {
	d := &Detail{
		Namespace: chosen.Namespace, Pool: chosen.Pool, Target: chosen.Target, Connections: []Connection{},
	}
	for _, target := range f.Targets {
		if target.Namespace == chosen.Namespace && target.Name == chosen.Target {
			d.describe(target)
		}
	}
	for i := range f.Connections {
		if c := &f.Connections[i]; keyOf(c) == chosen {
			d.Connections = append(d.Connections, f.connectionOf(c))
		}
	}
	slices.SortFunc(d.Connections, func(a, b Connection) int {
		return cmp.Or(cmp.Compare(a.Made, b.Made), strings.Compare(a.Name, b.Name))
	})
	d.addUses(f)
	return d
}

func (d *Detail) describe(target *v1alpha1.ConnectionTarget) {
	d.Server = display.OneLine(ptr.Deref(target.Status.ServerVersion, ""))
	d.Replica = display.OneLine(ptr.Deref(target.Status.Replica, ""))
	for _, c := range target.Status.Conditions {
		d.Conditions = append(d.Conditions, Condition{
			Type: display.OneLine(c.Type), Status: string(c.Status), Reason: display.OneLine(c.Reason),
			Message: display.OneLine(c.Message), Since: millis(&c.LastTransitionTime),
		})
	}
}

func (f *Facts) connectionOf(c *livev1alpha1.Connection) Connection {
	return Connection{
		Name: c.Name, State: string(c.State), Running: c.InUse, Uses: c.UseCount,
		Made: millis(&c.CreationTimestamp), Used: millis(c.LastUsedTime),
		RoundTrips: f.History.roundTrips(c), Address: display.OneLine(c.RemoteAddress),
	}
}

// millis returns a time as the page counts it.
func millis(at *metav1.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.UnixMilli()
}
