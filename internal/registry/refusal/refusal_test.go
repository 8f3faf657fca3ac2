package refusal

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

func TestNeverMoreThanTenTargetsAreListed(t *testing.T) {
	if got := List([]string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"}, 10); got != "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, ..." {
		t.Error(got)
	}
}

func TestAPersonReadsNoPrefixesAndAProgramTheField(t *testing.T) {
	container := field.NewPath("spec", "container")
	for name, test := range map[string]struct {
		problem *field.Error
		want    string
	}{
		"what is missing":                 {field.Required(container, "name the container; running on ci: web"), "name the container; running on ci: web"},
		"what does not belong":            {field.Forbidden(container, "target a is of type ssh, which has no containers"), "target a is of type ssh, which has no containers"},
		"what does not say of what it is": {field.Forbidden(field.NewPath("namespace"), "leave it out"), "namespace: leave it out"},
		"what must be something else":     {field.Invalid(container, "a b", "must be a name"), `spec.container "a b" must be a name`},
		"a number":                        {field.Invalid(field.NewPath("limit"), int32(-1), "must not be negative"), "limit -1 must not be negative"},
		"a secret":                        {field.Invalid(field.NewPath("env").Index(0), "", "must be NAME=value"), "env[0] must be NAME=value"},
		"a rule":                          {field.Invalid(container, "A", "a label has small letters"), `spec.container "A": a label has small letters`},
		"a flag":                          {field.Invalid(field.NewPath("stderr"), true, "a terminal has no stderr"), "stderr: a terminal has no stderr"},
		"what is too long":                {field.TooLong(container, "", 3), "spec.container: may not be more than 3 bytes"},
		"what is given twice":             {field.Duplicate(container, "a"), `spec.container "a" is given twice`},
		"what is unknown":                 {field.NotSupported(container, "c", []string{"a", "b"}), `spec.container "c" is unknown; supported values: "a", "b"`},
	} {
		t.Run(name, func(t *testing.T) {
			got := Invalid(field.ErrorList{test.problem, test.problem}).ErrStatus
			if got.Message != test.want {
				t.Errorf("message %q, want %q", got.Message, test.want)
			}
			if cause := got.Details.Causes[0]; cause.Field != test.problem.Field || cause.Message != test.problem.ErrorBody() {
				t.Errorf("cause %+v", cause)
			}
		})
	}
}
