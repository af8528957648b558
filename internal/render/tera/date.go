package tera

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones are the same on every machine that has none of its own

	"github.com/ultrafast-ci/ultrafast/internal/render"
)

// date formats a Unix time, an RFC 3339 time, a local time or a date by the
// conversions of chrono's strftime. A Unix time without a timezone has no zone,
// so a format that shows one is an error. Names are English: a locale is ignored,
// as by a Tera that was built without locales.
func date(r *run, v any, a args) (any, error) {
	format, err := a.str("format", "%Y-%m-%d")
	if err != nil {
		return nil, err
	}
	zone, err := a.str("timezone", "")
	if err != nil {
		return nil, err
	}
	if _, err := a.str("locale", ""); err != nil {
		return nil, err
	}
	var place *time.Location
	if zone != "" {
		if place, err = time.LoadLocation(zone); err != nil || zone == "Local" {
			return nil, fmt.Errorf("the timezone %q is not known", zone)
		}
	}
	t, zoned, err := readTime(v)
	if err != nil {
		return nil, err
	}
	// As in Tera a timezone changes Unix times and times with a zone, not dates.
	if _, isUnix := v.(int64); place != nil && (isUnix || zoned && hasZone(v)) {
		t, zoned = t.In(place), true
	}
	return strftime(t, format, zoned)
}

func hasZone(v any) bool {
	s, _ := v.(string)
	_, err := parseZoned(s)
	return err == nil
}

func readTime(v any) (t time.Time, zoned bool, err error) {
	switch v := v.(type) {
	case int64:
		const bound = 1 << 43 // the years that chrono knows are well inside
		if v > bound || v < -bound {
			return t, false, fmt.Errorf("the time %d is out of range", v)
		}
		return time.Unix(v, 0).UTC(), false, nil
	case string:
		if !strings.Contains(v, "T") {
			text := strings.TrimSpace(v)
			before, isBefore := strings.CutPrefix(text, "-")
			t, err := time.ParseInLocation("2006-1-2", before, time.UTC)
			if isBefore {
				t = time.Date(-t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
			}
			if err != nil {
				return t, false, fmt.Errorf("%q is not a date like 2006-01-02", v)
			}
			return t, true, nil
		}
		if t, err := parseZoned(v); err == nil {
			return t, true, nil
		}
		for _, layout := range []string{"2006-1-2T15:4:5.999999999", "2006-1-2T15:4:5"} {
			if t, err := time.ParseInLocation(layout, strings.TrimSpace(v), time.UTC); err == nil {
				return t, true, nil
			}
		}
		return t, false, fmt.Errorf("%q is not a time like 2006-01-02T15:04:05Z", v)
	case uint64, float64:
		return t, false, errors.New("a Unix time has to be an integer")
	}
	return t, false, fmt.Errorf("an integer or a string is needed, this is %s", render.KindOf(v))
}

func parseZoned(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05.999999999-0700", s)
	}
	if err == nil {
		// A zone of its own: the local zone of this machine is never meant.
		_, offset := t.Zone()
		t = t.In(time.FixedZone("", offset))
	}
	return t, err
}

// strftime formats t. A conversion may have a padding of - (none), _ (spaces)
// or 0 between the percent sign and its letter.
func strftime(t time.Time, format string, zoned bool) (string, error) {
	var b strings.Builder
	if len(format) > 4096 {
		return "", errors.New("the date format is longer than 4096 bytes")
	}
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			b.WriteByte(format[i])
			continue
		}
		n, err := conversion(&b, t, format[i+1:], zoned)
		if err != nil {
			return "", err
		}
		if n == 0 {
			return "", fmt.Errorf("the date format %q has an unknown conversion at byte %d", format, i)
		}
		i += n
	}
	return b.String(), nil
}

// fractions are the conversions of parts of a second.
var fractions = []struct {
	spec   string
	digits int
	dot    bool
}{
	{".3f", 3, true}, {".6f", 6, true}, {".9f", 9, true}, {".f", -1, true},
	{"3f", 3, false}, {"6f", 6, false}, {"9f", 9, false},
}

// conversion writes the conversion that spec begins with and returns its
// length, 0 if there is none.
func conversion(b *strings.Builder, t time.Time, spec string, zoned bool) (int, error) {
	for _, f := range fractions {
		if strings.HasPrefix(spec, f.spec) {
			writeFraction(b, t, f.digits, f.dot)
			return len(f.spec), nil
		}
	}
	for _, z := range []struct{ spec, layout string }{{":::z", "-07"}, {"::z", "-07:00:00"}, {":z", "-07:00"}, {"z", "-0700"}, {"Z", ""}} {
		if !strings.HasPrefix(spec, z.spec) {
			continue
		}
		if !zoned {
			return 0, errors.New("the time has no zone to show")
		}
		b.WriteString(zoneText(t, z.layout))
		return len(z.spec), nil
	}
	if spec == "" {
		return 0, nil
	}
	pad, n := byte(0), 0
	if c := spec[0]; c == '-' || c == '_' || c == '0' {
		pad, n = c, 1
	}
	if n >= len(spec) {
		return 0, nil
	}
	if value, width, fill, ok := numeric(t, spec[n]); ok {
		switch pad {
		case '-':
			width = 1
		case '_':
			fill = ' '
		case '0':
			fill = '0'
		}
		writeNumber(b, value, width, fill)
		return n + 1, nil
	}
	if pad != 0 {
		return 0, nil
	}
	if composed, ok := compositions[spec[0]]; ok {
		s, err := strftime(t, composed, zoned)
		b.WriteString(s)
		return 1, err
	}
	s, ok := textual(t, spec[0])
	b.WriteString(s)
	if !ok {
		return 0, nil
	}
	return 1, nil
}

var compositions = map[byte]string{
	'D': "%m/%d/%y", 'x': "%m/%d/%y", 'F': "%Y-%m-%d", 'v': "%e-%b-%Y", 'R': "%H:%M", 'T': "%H:%M:%S",
	'X': "%H:%M:%S", 'r': "%I:%M:%S %p", 'c': "%a %b %e %H:%M:%S %Y", '+': "%Y-%m-%dT%H:%M:%S%.f%:z",
}

func zoneText(t time.Time, layout string) string {
	if layout != "" {
		return t.Format(layout)
	}
	if name, offset := t.Zone(); name != "" && (name != "UTC" || offset == 0) {
		return name
	}
	return t.Format("-07:00")
}

func writeFraction(b *strings.Builder, t time.Time, digits int, dot bool) {
	nanos := fmt.Sprintf("%09d", t.Nanosecond())
	switch {
	case digits >= 0:
		nanos = nanos[:digits]
	case t.Nanosecond() == 0:
		return
	case t.Nanosecond()%1e6 == 0:
		nanos = nanos[:3]
	case t.Nanosecond()%1e3 == 0:
		nanos = nanos[:6]
	}
	if dot {
		b.WriteByte('.')
	}
	b.WriteString(nanos)
}

// numeric returns a number of t, its least width and what fills it.
func numeric(t time.Time, c byte) (value int64, width int, fill byte, ok bool) {
	isoYear, isoWeek := t.ISOWeek()
	n := func(v, w int) (int64, int, byte, bool) { return int64(v), w, '0', true }
	switch c {
	case 'Y':
		return n(t.Year(), 4)
	case 'C':
		return n(floorDiv(t.Year(), 100), 2)
	case 'y':
		return n(t.Year()-100*floorDiv(t.Year(), 100), 2)
	case 'm':
		return n(int(t.Month()), 2)
	case 'd':
		return n(t.Day(), 2)
	case 'e':
		return int64(t.Day()), 2, ' ', true
	case 'H':
		return n(t.Hour(), 2)
	case 'k':
		return int64(t.Hour()), 2, ' ', true
	case 'I':
		return n((t.Hour()+11)%12+1, 2)
	case 'l':
		return int64((t.Hour()+11)%12 + 1), 2, ' ', true
	case 'M':
		return n(t.Minute(), 2)
	case 'S':
		return n(t.Second(), 2)
	case 'f':
		return n(t.Nanosecond(), 9)
	case 'j':
		return n(t.YearDay(), 3)
	case 'w':
		return n(int(t.Weekday()), 1)
	case 'u':
		return n(int(t.Weekday()+6)%7+1, 1)
	case 'U':
		return n((t.YearDay()+6-int(t.Weekday()))/7, 2)
	case 'W':
		return n((t.YearDay()+6-int(t.Weekday()+6)%7)/7, 2)
	case 'G':
		return n(isoYear, 4)
	case 'g':
		return n(isoYear-100*floorDiv(isoYear, 100), 2)
	case 'V':
		return n(isoWeek, 2)
	case 'q':
		return n((int(t.Month())+2)/3, 1)
	case 's':
		return t.Unix(), 1, '0', true
	}
	return 0, 0, 0, false
}

func floorDiv(a, b int) int {
	if a < 0 {
		return -((-a + b - 1) / b)
	}
	return a / b
}

func writeNumber(b *strings.Builder, v int64, width int, fill byte) {
	s := strconv.FormatInt(v, 10)
	switch {
	case v < 0 && width > 1: // the year -1 is -0001
		b.WriteByte('-')
		s = s[1:]
	case v > 9999 && width == 4:
		s = "+" + s // years beyond four digits have a sign
	}
	for range max(0, width-len(s)) {
		b.WriteByte(fill)
	}
	b.WriteString(s)
}

func textual(t time.Time, c byte) (string, bool) {
	switch c {
	case 'B':
		return t.Month().String(), true
	case 'b', 'h':
		return t.Month().String()[:3], true
	case 'A':
		return t.Weekday().String(), true
	case 'a':
		return t.Weekday().String()[:3], true
	case 'p':
		return t.Format("PM"), true
	case 'P':
		return t.Format("pm"), true
	case 't':
		return "\t", true
	case 'n':
		return "\n", true
	case '%':
		return "%", true
	}
	return "", false
}
