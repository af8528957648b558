package fault

import "fmt"

// Nearest returns the name in known that is most like word, if one is near
// enough to be a likely slip: at most a third of its letters differ, by
// optimal string alignment distance (insert, delete, replace, swap two
// neighbours), and not all of them. Of equally near names the first in known wins.
func Nearest(word string, known []string) (string, bool) {
	best, bestDistance := "", maxSuggest+1
	for _, name := range known {
		limit := max(1, len(name)/3)
		if d := distance(word, name); d <= limit && d < bestDistance && d < len(name) {
			best, bestDistance = name, d
		}
	}
	return best, bestDistance <= maxSuggest
}

// DidYouMean returns "did you mean "name"?" for the nearest known name, or the
// empty string if none is near.
func DidYouMean(word string, known []string) string {
	if name, ok := Nearest(word, known); ok {
		return fmt.Sprintf("did you mean %q?", name)
	}
	return ""
}

const (
	maxSuggest = 8   // more edits than this are never a slip
	maxWord    = 128 // longer words are not compared: hostile input must not cost quadratic time
)

func distance(a, b string) int {
	if len(a) > maxWord || len(b) > maxWord {
		return maxWord
	}
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(row[j]+1, next[j-1]+1, row[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
