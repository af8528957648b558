package generate

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// fold returns s such that names which some file system takes for one become equal.
// APFS and ext4 compare without case by decomposition (NFD) and the full case folding
// of Unicode, and ext4 skips what is ignorable; NTFS, by single letters, finds fewer.
func fold(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return strings.ToLower(s) // most names
	}
	s = strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return -1
		}
		// The smallest rune of the folding orbit stands for all of it.
		smallest := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			smallest = min(smallest, next)
		}
		return unicode.ToLower(smallest)
	}, norm.NFD.String(s))
	return fullFolds.Replace(s)
}

// fullFolds are the foldings of CaseFolding.txt with status F that decomposition does
// not give already.
var fullFolds = strings.NewReplacer(
	"ß", "ss", "ŉ", "ʼn", "ẚ", "aʾ",
	"ﬀ", "ff", "ﬁ", "fi", "ﬂ", "fl", "ﬃ", "ffi", "ﬄ", "ffl", "ﬅ", "st", "ﬆ", "st",
	"և", "եւ", "ﬓ", "մն", "ﬔ", "մե", "ﬕ", "մի", "ﬖ", "վն", "ﬗ", "մխ",
)

// alike says of two names that fold to one how they differ.
func alike(a, b string) string {
	if norm.NFC.String(a) == norm.NFC.String(b) {
		return fmt.Sprintf("differ only in how Unicode writes a letter with its accents (%+q and %+q)", a, b)
	}
	return "differ only in case"
}
