package ansible

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"sigs.k8s.io/yaml"
)

// yamlGroup is a group in the form of YAML.
type yamlGroup struct {
	Hosts    map[string]map[string]any `json:"hosts"`
	Vars     map[string]any            `json:"vars"`
	Children map[string]*yamlGroup     `json:"children"`
}

// readYAML reads the form of YAML: groups with hosts, variables and children.
func (a *inventory) readYAML(text string) error {
	var groups map[string]*yamlGroup
	if err := yaml.Unmarshal([]byte(text), &groups); err != nil {
		return fmt.Errorf("it is not a YAML inventory: %w", err)
	}
	return a.readGroups("", groups, 0)
}

// maxGroupDepth bounds how deep groups may be in each other.
const maxGroupDepth = 64

func (a *inventory) readGroups(parent string, groups map[string]*yamlGroup, depth int) error {
	if depth > maxGroupDepth {
		return errors.New("its groups are nested too deeply")
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := a.group(name)
		if parent != "" {
			a.group(parent).children = append(a.group(parent).children, name)
		}
		from := groups[name]
		if from == nil {
			continue
		}
		maps.Copy(g.vars, texts(from.Vars))
		for _, pattern := range slices.Sorted(maps.Keys(from.Hosts)) {
			if err := a.add(name, pattern, texts(from.Hosts[pattern])); err != nil {
				return err
			}
		}
		if err := a.readGroups(name, from.Children, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// texts returns variables as text. Lists and maps are no settings of a connection.
func texts(vars map[string]any) map[string]string {
	all := map[string]string{}
	for name, value := range vars {
		all[name] = fmt.Sprint(value)
	}
	return all
}
