package document

import (
	"bytes"
	"unicode/utf8"
)

// withoutMark returns text without the byte order mark that some editors put before
// UTF-8. No column counts it.
func withoutMark(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\ufeff")) }

// checkUTF8 refuses invalid UTF-8 and NUL, which no text format here allows.
func checkUTF8(at Place, text []byte) error {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 || r == 0 {
			at.Line += bytes.Count(text[:i], []byte("\n"))
			at.Column = i - bytes.LastIndexByte(text[:i], '\n')
			return failure(at, "save the file as UTF-8", "byte 0x%02x is not valid text", text[i])
		}
		i += size
	}
	return nil
}

// lines finds the line and column of an offset in O(log n).
type lines struct {
	starts []int // offsets at which lines begin
}

func newLines(text []byte) lines {
	starts := []int{0}
	for i, b := range text {
		if b == '\n' {
			starts = append(starts, i+1)
		}
	}
	return lines{starts}
}

func (l lines) position(offset int) (line, column int) {
	low, high := 0, len(l.starts)
	for high-low > 1 {
		if mid := (low + high) / 2; l.starts[mid] <= offset {
			low = mid
		} else {
			high = mid
		}
	}
	return low + 1, offset - l.starts[low] + 1
}
