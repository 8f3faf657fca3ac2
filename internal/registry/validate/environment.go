package validate

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// environmentName is what POSIX calls a name.
var environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Environment returns what is wrong with the variables of a command. It never
// repeats a value, which may be a secret.
func Environment(at *field.Path, env map[string]string) (problems field.ErrorList) {
	if len(env) > live.MaxCommandArguments {
		return field.ErrorList{field.TooMany(at, len(env), live.MaxCommandArguments)}
	}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(env)) {
		size += len(name) + len(env[name])
		if !environmentName.MatchString(name) {
			problems = append(problems, field.Invalid(at, driver.Sanitize(name),
				"a name has letters, digits and _ only, and does not begin with a digit"))
		}
		if strings.ContainsRune(env[name], 0) {
			problems = append(problems, field.Invalid(at.Key(driver.Sanitize(name)), "", "must not hold a NUL character"))
		}
	}
	if size > live.MaxCommandBytes {
		problems = append(problems, field.TooLong(at, "", live.MaxCommandBytes))
	}
	return problems
}
