package app

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/ultrafast-ci/ultrafast/steps/finding"
)

// maxCell bounds what a table shows of one value, in bytes.
const maxCell = 400

// Table writes rows to standard output in columns, the first row being the heading.
// A cell may come from outside: it is shown as one line without control characters.
// Machines read --output json, which has every value whole.
func (a *App) Table(rows ...[]any) error {
	w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = finding.Clean(fmt.Sprint(cell), maxCell)
		}
		if _, err := fmt.Fprintln(w, strings.Join(cells, "\t")); err != nil {
			return unprinted(err)
		}
	}
	return unprinted(w.Flush())
}
