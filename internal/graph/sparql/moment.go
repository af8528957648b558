package sparql

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// moment is the value of an xsd:dateTime or an xsd:date (XML Schema 1.1
// Datatypes, section 3.3.7): its parts as they are written, and the instant
// that they name if its zone, or UTC where it has none, is taken.
type moment struct {
	year                     int
	month, day, hour, minute int
	second                   *big.Rat
	zone                     string // "", "Z" or "+hh:mm"
	offset                   time.Duration
	whole                    int64    // seconds from year 1, in UTC
	fraction                 *big.Rat // of a second
}

func parseDateTime(s string) (*moment, bool) {
	date, clock, ok := strings.Cut(s, "T")
	if !ok || len(clock) < len("hh:mm:ss") || clock[2] != ':' || clock[5] != ':' {
		return nil, false
	}
	m := &moment{}
	seconds, ok := m.setZone(clock[6:])
	if !ok || !m.setDate(date) {
		return nil, false
	}
	if len(seconds) < 2 || len(seconds) > 64 || len(seconds) > 2 && (seconds[2] != '.' || len(seconds) == 3) {
		return nil, false
	}
	for i := range len(seconds) {
		if i != 2 && !isDigit(seconds[i]) {
			return nil, false
		}
	}
	var ok1, ok2 bool
	m.hour, ok1 = twoDigits(clock[0:2])
	m.minute, ok2 = twoDigits(clock[3:5])
	m.second, ok = new(big.Rat).SetString(seconds)
	if !ok || !ok1 || !ok2 || m.minute > 59 || m.second.Cmp(big.NewRat(60, 1)) >= 0 {
		return nil, false
	}
	if m.hour == 24 && m.minute == 0 && m.second.Sign() == 0 { // the first moment of the next day
		next := time.Date(m.year, time.Month(m.month), m.day+1, 0, 0, 0, 0, time.UTC)
		m.year, m.month, m.day, m.hour = next.Year(), int(next.Month()), next.Day(), 0
	}
	if m.hour > 23 {
		return nil, false
	}
	m.setInstant()
	return m, true
}

func parseDate(s string) (*moment, bool) {
	m := &moment{second: new(big.Rat)}
	date, ok := m.setZone(s)
	if !ok || !m.setDate(date) {
		return nil, false
	}
	m.setInstant()
	return m, true
}

// setZone cuts the zone off the end of s.
func (m *moment) setZone(s string) (rest string, ok bool) {
	if rest, ok := strings.CutSuffix(s, "Z"); ok {
		m.zone = "Z"
		return rest, true
	}
	n := len(s) - len("+hh:mm")
	if n < 0 || s[n] != '+' && s[n] != '-' || s[n+3] != ':' {
		return s, true
	}
	hours, ok1 := twoDigits(s[n+1 : n+3])
	minutes, ok2 := twoDigits(s[n+4:])
	if !ok1 || !ok2 || minutes > 59 || hours*60+minutes > 14*60 {
		return "", false
	}
	m.zone, m.offset = s[n:], time.Duration(hours*60+minutes)*time.Minute
	if s[n] == '-' {
		m.offset = -m.offset
	}
	return s[:n], true
}

func twoDigits(s string) (int, bool) {
	if len(s) != 2 || !isDigit(s[0]) || !isDigit(s[1]) {
		return 0, false
	}
	return int(s[0]-'0')*10 + int(s[1]-'0'), true
}

func (m *moment) setDate(s string) bool {
	negative := strings.HasPrefix(s, "-")
	s = strings.TrimPrefix(s, "-")
	n := len(s) - len("-mm-dd")
	if n < 4 || n > 9 || n > 4 && s[0] == '0' || s[n] != '-' || s[n+3] != '-' {
		return false
	}
	var ok1, ok2 bool
	m.month, ok1 = twoDigits(s[n+1 : n+3])
	m.day, ok2 = twoDigits(s[n+4:])
	year, err := strconv.ParseUint(s[:n], 10, 31)
	if err != nil || !ok1 || !ok2 || m.month < 1 || m.month > 12 || m.day < 1 {
		return false
	}
	m.year = int(year)
	if negative {
		m.year = -m.year
	}
	return m.day <= time.Date(m.year, time.Month(m.month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

func (m *moment) setInstant() {
	t := time.Date(m.year, time.Month(m.month), m.day, m.hour, m.minute, 0, 0, time.UTC)
	whole := new(big.Int).Quo(m.second.Num(), m.second.Denom())
	m.whole = t.Unix() + whole.Int64() - int64(m.offset/time.Second)
	m.fraction = new(big.Rat).Sub(m.second, new(big.Rat).SetInt(whole))
}

// compareMoments orders two moments; known is false if only one has a zone
// and the order depends on the other's (XML Schema, order of dateTime).
func compareMoments(a, b *moment) (order int, known bool) {
	const widest = 14 * 60 * 60 // seconds
	if (a.zone == "") != (b.zone == "") {
		switch d := a.whole - b.whole; {
		case d > widest:
			return 1, true
		case d < -widest:
			return -1, true
		}
		return 0, false
	}
	return a.compare(b), true
}

// compare orders by instant, a moment without a zone being taken in UTC.
func (m *moment) compare(b *moment) int {
	switch {
	case m.whole < b.whole:
		return -1
	case m.whole > b.whole:
		return 1
	}
	return m.fraction.Cmp(b.fraction)
}

// duration returns the zone as the lexical form of an xsd:dayTimeDuration.
func (m *moment) duration() string {
	minutes := int(m.offset / time.Minute)
	if minutes == 0 {
		return "PT0S"
	}
	sign := ""
	if minutes < 0 {
		sign, minutes = "-", -minutes
	}
	out := sign + "PT"
	if h := minutes / 60; h > 0 {
		out += fmt.Sprintf("%dH", h)
	}
	if n := minutes % 60; n > 0 {
		out += fmt.Sprintf("%dM", n)
	}
	return out
}
