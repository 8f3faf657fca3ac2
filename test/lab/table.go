package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/rest"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
)

// tables reads what kubectl shows: the API server makes the table, so that its
// columns are those of the CRD.
type tables struct {
	client *http.Client
	host   string
}

func newTables(config *rest.Config) (*tables, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	return &tables{client, config.Host}, nil
}

func (t *tables) get(ctx context.Context, group schema.GroupVersion, resource string) (*metav1.Table, error) {
	url := fmt.Sprintf("%s/apis/%s/namespaces/%s/%s", t.host, group, namespace, resource)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := t.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get %s: %s", resource, response.Status)
	}
	table := &metav1.Table{}
	return table, json.NewDecoder(response.Body).Decode(table)
}

// view is what a user sees at one moment.
type view struct {
	pools, targets *metav1.Table
	// live is true if kube-apiserver passes requests on to the operator, which it begins
	// some seconds after the operator's start.
	live bool
}

func (t *tables) view(ctx context.Context) (view, error) {
	pools, err := t.get(ctx, v1alpha1.GroupVersion, "connectionpools")
	if err != nil {
		return view{}, err
	}
	targets, err := t.get(ctx, v1alpha1.GroupVersion, "connectiontargets")
	if err != nil {
		return view{}, err
	}
	_, err = t.get(ctx, live.GroupVersion, "connections")
	return view{pools, targets, err == nil}, nil
}

// String is what `kubectl get connectionpools,connectiontargets` prints.
func (v view) String() string {
	out := new(bytes.Buffer)
	printer := printers.NewTablePrinter(printers.PrintOptions{})
	for i, table := range []*metav1.Table{v.pools, v.targets} {
		if i > 0 {
			out.WriteString("\n")
		}
		_ = printer.PrintObj(table, out) // a buffer takes all, and a table can be printed
	}
	return out.String()
}

// news are the cells of the view without those that always move, such as ages.
func (v view) news() string {
	var cells []string
	for _, table := range []*metav1.Table{v.pools, v.targets} {
		for _, row := range table.Rows {
			for i, cell := range row.Cells {
				if !slices.Contains([]string{"Age", "Oldest", "Uses"}, table.ColumnDefinitions[i].Name) {
					cells = append(cells, fmt.Sprint(cell))
				}
			}
		}
	}
	return strings.Join(cells, "\x00")
}

// settled reports whether the samples are as they should be: they can be used, every
// pool is ready and so is every target, but for the one that is down on purpose and has
// said so.
func (v view) settled() bool {
	pools, names, ready := column(v.pools, "Ready"), column(v.targets, "Name"), column(v.targets, "Ready")
	if !v.live || len(pools) == 0 || len(names) == 0 || len(ready) != len(names) {
		return false
	}
	for i, name := range names {
		if want := name != downSample; ready[i] != conditionStatus(want) {
			return false
		}
	}
	return !slices.ContainsFunc(pools, func(cell string) bool { return cell != conditionStatus(true) })
}

func conditionStatus(isTrue bool) string {
	if isTrue {
		return string(metav1.ConditionTrue)
	}
	return string(metav1.ConditionFalse)
}

// column returns the cells of the column with that head.
func column(table *metav1.Table, head string) []string {
	at := slices.IndexFunc(table.ColumnDefinitions, func(c metav1.TableColumnDefinition) bool { return c.Name == head })
	if at < 0 {
		return nil
	}
	var cells []string
	for _, row := range table.Rows {
		cells = append(cells, fmt.Sprint(row.Cells[at]))
	}
	return cells
}
