package cli

import (
	"errors"

	"github.com/spf13/cobra"
)

// newTopCommand shows connections as they change.
//
// This file and its test belong to whoever builds top: replace all of it, and
// keep the constructor's name and signature. Take options as a struct that
// implements runnable, and give it to runs; see cli.go.
func newTopCommand(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:   "top [POOL]",
		Short: "Watch connections as they change",
		RunE: func(*cobra.Command, []string) error {
			return errors.New("top is not built yet in " + f.version)
		},
	}
}
