package credentials

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/connpool/connpool/api/v1alpha1"
)

func TestOnlyTheExactLabelLetsTargetsUseASecret(t *testing.T) {
	for name, test := range map[string]struct {
		labels map[string]string
		usable bool
	}{
		"the label":              {map[string]string{v1alpha1.CredentialsLabel: "true"}, true},
		"none":                   {nil, false},
		"another word for true":  {map[string]string{v1alpha1.CredentialsLabel: "True"}, false},
		"a number for true":      {map[string]string{v1alpha1.CredentialsLabel: "1"}, false},
		"empty":                  {map[string]string{v1alpha1.CredentialsLabel: ""}, false},
		"false":                  {map[string]string{v1alpha1.CredentialsLabel: "false"}, false},
		"in another group":       {map[string]string{"connpool.example.com/credentials": "true"}, false},
		"in another spelling":    {map[string]string{"connpool.dev/Credentials": "true"}, false},
		"as the name of a value": {map[string]string{"true": v1alpha1.CredentialsLabel}, false},
	} {
		t.Run(name, func(t *testing.T) {
			secret := secretOf("1")
			secret.Labels = test.labels
			got, err := Secret(t.Context(), &reads{secret: secret}, client.ObjectKey{Namespace: "prod", Name: "token"})
			if err != nil || (got != nil) != test.usable {
				t.Errorf("usable: %t, error %v, want usable: %t", got != nil, err, test.usable)
			}
		})
	}
}
