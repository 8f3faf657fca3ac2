package output

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/connpool/connpool/internal/cli/plugin"
	"github.com/connpool/connpool/internal/columns"
)

type thing struct {
	Name  string      `json:"name"`
	State string      `json:"state"`
	Since metav1.Time `json:"since"`
}

// look is what one look at the list finds.
type look struct {
	things []thing
	err    error
}

// screen is a list that is watched in virtual time.
type screen struct {
	t        *testing.T
	out, err bytes.Buffer
	looks    []look
	// at are the times of the looks since the first.
	at    []time.Duration
	start time.Time
}

// watch runs the list with these flags until it has had all looks, and returns the
// error with which the watch ends.
func (s *screen) watch(args ...string) error {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	s.start = time.Now()
	f := plugin.New("kubectl connpool", "v1", genericiooptions.IOStreams{Out: &s.out, ErrOut: &s.err})
	f.Namespace = "shop"
	command := &cobra.Command{Use: "things"}
	list := &List[thing]{
		Flags: Register(f, command, "things"), Kind: "things", Prefix: "thing/",
		Columns: []columns.Column[*thing]{
			columns.Text("Name", "", func(t *thing) string { return t.Name }),
			columns.Text("State", "", func(t *thing) string { return t.State }),
			columns.Ago("Age", "", func(t *thing) *metav1.Time { return &t.Since }),
		},
		Read: func(context.Context) ([]thing, error) {
			s.at = append(s.at, time.Since(s.start))
			now := s.looks[len(s.at)-1]
			if len(s.at) == len(s.looks) {
				time.AfterFunc(time.Second, cancel)
			}
			return now.things, now.err
		},
		Wrap: func(all []thing) any { return map[string]any{"items": all} },
		Key:  func(t *thing) types.NamespacedName { return types.NamespacedName{Name: t.Name} },
		Gone: func(t *thing) { t.State = "Gone" },
	}
	if err := command.ParseFlags(append(args, "--watch")); err != nil {
		s.t.Fatal(err)
	}
	return list.Show(ctx)
}

func (s *screen) saw(out string, seconds ...int) {
	s.t.Helper()
	if diff := cmp.Diff(out, s.out.String()); diff != "" {
		s.t.Errorf("printed (-want +got):\n%s", diff)
	}
	var want []time.Duration
	for _, n := range seconds {
		want = append(want, time.Duration(n)*time.Second)
	}
	if diff := cmp.Diff(want, s.at); diff != "" {
		s.t.Errorf("looked at (-want +got):\n%s", diff)
	}
}

func TestAWatchPrintsRowsThatHaveChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := metav1.Now()
		a, b := thing{"a", "Idle", start}, thing{"b", "Idle", start}
		busy := thing{"b", "InUse", start}
		s := &screen{t: t, looks: []look{{things: []thing{a, b}}, {things: []thing{a, b}}, {things: []thing{a, busy}}, {things: []thing{busy}}}}
		if err := s.watch(); err == nil || err.Error() != "exit code 130" {
			t.Errorf("it ends with %v", err)
		}
		s.saw("NAME   STATE   AGE\na      Idle    0s\nb      Idle    0s\nb      InUse   4s\na      Gone    6s\n", 0, 2, 4, 6)
	})
}

func TestAWatchIsForProgramsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := []look{{things: []thing{{Name: "a", State: "Idle"}}}, {things: []thing{{Name: "a", State: "InUse"}}}}
		for form, want := range map[string]string{
			"jsonpath={..state};":           "Idle;InUse;",
			"name":                          "thing/a\nthing/a\n",
			"custom-columns=N:name,S:state": "N   S\na   Idle\na   InUse\n",
		} {
			s := &screen{t: t, looks: looks}
			_ = s.watch("-o", form)
			s.saw(want, 0, 2)
		}
	})
}

func TestAWatchWaitsLongerWhileTheClusterDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := look{err: errors.New("connection refused")}
		there := look{things: []thing{{"a", "Idle", metav1.Now()}}}
		s := &screen{t: t, looks: []look{there, away, away, away, away, away, there, there}}
		_ = s.watch()
		s.saw("NAME   STATE   AGE\na      Idle    0s\n", 0, 2, 6, 14, 30, 60, 90, 92)
		if got := s.err.String(); got != "error: connection refused; trying again\n" {
			t.Errorf("it says %q", got)
		}
	})
}

func TestAWatchEndsWhenAskingAgainIsInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := apierrors.NewNotFound(schema.GroupResource{Resource: "things"}, "a")
		s := &screen{t: t, looks: []look{{things: []thing{{Name: "a"}}}, {err: gone}}}
		if err := s.watch(); !errors.Is(err, gone) {
			t.Errorf("it ends with %v", err)
		}
		s.saw("NAME   STATE   AGE\na      -       -\n", 0, 2)
	})
}

func TestAnEmptyListSaysWhatWasAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{t: t, looks: []look{{}, {things: []thing{{"a", "Idle", metav1.Now()}}}}}
		_ = s.watch("-l", "app=none")
		if got := s.err.String(); got != "No things with the labels app=none in namespace shop.\n" {
			t.Errorf("it says %q", got)
		}
	})
}

func TestTheFirstLookOfAWatchMayFindNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{t: t, looks: []look{{}, {things: []thing{{"a", "Idle", metav1.Now()}}}}}
		_ = s.watch("--no-headers")
		s.saw("a   Idle   2s\n", 0, 2)
		if got := s.err.String(); got != "No things in namespace shop.\n" {
			t.Errorf("it says %q", got)
		}
	})
}
