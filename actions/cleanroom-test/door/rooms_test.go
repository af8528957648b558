package door

import (
	"encoding/json"
	"log/slog"
	"testing"

	"github.com/ultrafast-ci/ultrafast/internal/config"
)

// TestBackends opens every back end that a project may write.
func TestBackends(t *testing.T) {
	t.Parallel()
	var schema struct {
		Properties struct {
			Backend struct {
				Properties struct {
					Type struct {
						Enum []string `json:"enum"`
					} `json:"type"`
				} `json:"properties"`
			} `json:"backend"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(config.Schemas()["docs/cleanroom-config.schema.json"], &schema); err != nil {
		t.Fatal(err)
	}
	names := schema.Properties.Backend.Properties.Type.Enum
	if len(names) < 2 {
		t.Fatalf("the schema has the back ends %q", names)
	}
	for _, name := range names {
		c := choice{Type: name, StateDir: t.TempDir(), ImagesDir: t.TempDir()}
		if _, err := c.open(slog.New(slog.DiscardHandler)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
