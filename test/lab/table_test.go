package lab

import (
	"bytes"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func table(heads []string, rows ...[]any) *metav1.Table {
	t := &metav1.Table{}
	for _, head := range heads {
		t.ColumnDefinitions = append(t.ColumnDefinitions, metav1.TableColumnDefinition{Name: head})
	}
	for _, cells := range rows {
		t.Rows = append(t.Rows, metav1.TableRow{Cells: cells})
	}
	return t
}

func targets(rows ...[]any) *metav1.Table { return table([]string{"Name", "Ready", "Age"}, rows...) }

func TestSettled(t *testing.T) {
	pools := targets([]any{"web", "True", "1s"})
	tests := map[string]struct {
		view view
		want bool
	}{
		"all is ready, and the one that is down says so": {
			view{pools, targets([]any{"web-1", "True", "1s"}, []any{downSample, "False", "1s"}), true}, true,
		},
		"all is ready, and cannot be used yet": {
			view{pools, targets([]any{"web-1", "True", "1s"}, []any{downSample, "False", "1s"}), false}, false,
		},
		"the one that is down has not been tried yet": {
			view{pools, targets([]any{"web-1", "True", "1s"}, []any{downSample, nil, "1s"}), true}, false,
		},
		"a target is not ready": {view{pools, targets([]any{"web-1", "False", "1s"}), true}, false},
		"a pool is not ready": {
			view{targets([]any{"web", "False", "1s"}), targets([]any{"web-1", "True", "1s"}), true}, false,
		},
		"nothing has been applied yet": {view{targets(), targets(), true}, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tc.view.settled(); got != tc.want {
				t.Errorf("settled is %v, want %v", got, tc.want)
			}
		})
	}
}

func TestAgesAreNoNews(t *testing.T) {
	pools := targets([]any{"web", "True", "1s"})
	before := view{pools, targets([]any{"web-1", "True", "1s"}), true}
	later := view{pools, targets([]any{"web-1", "True", "2s"}), true}
	worse := view{pools, targets([]any{"web-1", "False", "2s"}), true}
	if before.news() != later.news() {
		t.Error("a greater age counts as news")
	}
	if later.news() == worse.news() {
		t.Error("a target that is not ready any more counts as no news")
	}
}

func TestAScreenThatIsNoTerminalGetsPlainText(t *testing.T) {
	out := new(bytes.Buffer)
	s := newScreen(out)
	s.show("one\n")
	s.show("two\n")
	if got := out.String(); got != "one\ntwo\n" {
		t.Errorf("%q, want both texts and nothing else", got)
	}
}
