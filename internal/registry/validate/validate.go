// Package validate has the rules for fields that several requests have in common: places
// in a target, names and environments. Problems never repeat a value that may be a secret.
//
//	problems := validate.Place(root, place)(target)
//	problems = append(problems, validate.Environment(root.Child("env"), env)...)
package validate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	live "github.com/connpool/connpool/api/live/v1alpha1"
	"github.com/connpool/connpool/api/v1alpha1"
	"github.com/connpool/connpool/internal/driver"
)

// Place returns a function that says whether a target has a place, or a part of one: what
// is missing is chosen, or asked for, once there is a connection. The fields that name the
// place are below root, or at the top when it is nil.
func Place(root *field.Path, place driver.Place) func(*v1alpha1.ConnectionTarget) field.ErrorList {
	return func(target *v1alpha1.ConnectionTarget) field.ErrorList {
		kind := target.Spec.Type()
		switch kind {
		case v1alpha1.TargetTypeSSH:
			return OnHost(root, target.Name, place)
		case v1alpha1.TargetTypeDocker:
			return inEngine(root, target.Name, place)
		case v1alpha1.TargetTypeKubernetes:
			return namesInCluster(root, place)
		}
		return UnknownType(target.Name, kind)
	}
}

// UnknownType refuses a target of a type for which the live API has no rules.
func UnknownType(target string, kind v1alpha1.TargetType) field.ErrorList {
	return field.ErrorList{field.Forbidden(field.NewPath("target"), OfType(target, kind)+
		", which this request does not support; choose a target of another type")}
}

// OfType says of which type a target is, at the beginning of a message.
func OfType(target string, kind v1alpha1.TargetType) string {
	return fmt.Sprintf("target %s is of type %s", target, kind)
}

const maxNameLength = 253

// containerName is what Docker calls a name; an ID is one, too. Engines write a name with
// a slash before it, and take it so.
var containerName = regexp.MustCompile(`^/?[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func inEngine(root *field.Path, target string, place driver.Place) field.ErrorList {
	at := root.Child("container")
	subject := OfType(target, v1alpha1.TargetTypeDocker)
	problems := forbidPod(root, subject+", which has no pods; name a container instead", place)
	switch {
	case place.Container == "":
	case len(place.Container) > maxNameLength:
		problems = append(problems, field.TooLong(at, "", maxNameLength))
	case !containerName.MatchString(place.Container):
		problems = append(problems, field.Invalid(at, driver.Sanitize(place.Container),
			"must be the name or ID of a container: letters, digits, _, . and -, of which the first is a letter or digit"))
	}
	return problems
}

// InCluster returns what is wrong with a pod of a cluster, which must be named.
func InCluster(root *field.Path, target string, place driver.Place) field.ErrorList {
	if place.Pod == "" {
		return field.ErrorList{field.Required(root.Child("pod"),
			OfType(target, v1alpha1.TargetTypeKubernetes)+": name the pod, and its namespace if it is not that of the target")}
	}
	return namesInCluster(root, place)
}

func namesInCluster(root *field.Path, place driver.Place) field.ErrorList {
	problems := Name(root.Child("pod"), place.Pod, validation.IsDNS1123Subdomain)
	problems = append(problems, Name(root.Child("namespace"), place.Namespace, validation.IsDNS1123Label)...)
	return append(problems, Name(root.Child("container"), place.Container, validation.IsDNS1123Label)...)
}

// Name checks an optional name of something in a cluster.
func Name(at *field.Path, name string, check func(string) []string) (problems field.ErrorList) {
	if name == "" {
		return nil
	}
	for _, rule := range check(name) {
		problems = append(problems, field.Invalid(at, driver.Sanitize(name), rule))
	}
	return problems
}

// OnHost returns what is wrong with a place on a host, which has none.
func OnHost(root *field.Path, target string, place driver.Place) field.ErrorList {
	subject := OfType(target, v1alpha1.TargetTypeSSH)
	problems := forbidPod(root, subject+", which has no pods; leave the pod out", place)
	if place.Container != "" {
		problems = append(problems, field.Forbidden(root.Child("container"), subject+", which has no containers; leave the container out"))
	}
	return problems
}

func forbidPod(root *field.Path, why string, place driver.Place) (problems field.ErrorList) {
	if place.Pod != "" {
		problems = append(problems, field.Forbidden(root.Child("pod"), why))
	}
	if place.Namespace != "" {
		problems = append(problems, field.Forbidden(root.Child("namespace"), why))
	}
	return problems
}

// Printable reports whether words hold no control characters.
func Printable(words string) bool {
	return !strings.ContainsFunc(words, func(r rune) bool { return !unicode.IsPrint(r) })
}

// environmentName is what POSIX calls a name.
var environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Environment returns what is wrong with the variables of a command, without their values.
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
			problems = append(problems, field.Invalid(at.Key(driver.Sanitize(name)), "", "must not contain a NUL character"))
		}
	}
	if size > live.MaxCommandBytes {
		problems = append(problems, field.TooLong(at, "", live.MaxCommandBytes))
	}
	return problems
}
