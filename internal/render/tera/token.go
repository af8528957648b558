package tera

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

func (p *parser) pathExpr(i int) (int, *expr) {
	end, pe := p.path(i)
	if end < 0 {
		return -1, nil
	}
	return end, &expr{kind: exprPath, pos: int32(i), path: pe}
}

func (p *parser) path(i int) (int, *path) {
	if i >= len(p.src) || !isIdentStart(p.src[i]) {
		return -1, nil
	}
	key := memoKey{rulePath, i}
	if m, ok := p.memo[key]; ok {
		return m.end, m.path
	}
	if !p.enter(i) {
		return -1, nil
	}
	end, pe := p.pathAt(i)
	p.leave()
	p.memo[key] = memoValue{end: end, path: pe}
	return end, pe
}

// path = name ("." characters | "[" (int | string | path) "]")*, no whitespace inside.
func (p *parser) pathAt(i int) (int, *path) {
	end := p.ident(i)
	pe := &path{pos: int32(i), root: p.src[i:end]}
	dotted := true
	for end < len(p.src) {
		if p.src[end] == '.' {
			stop := end + 1
			for stop < len(p.src) && isIdent(p.src[stop]) {
				stop++
			}
			if stop == end+1 {
				break
			}
			pe.segs = append(pe.segs, newSegment(p.src[end+1:stop]))
			end = stop
			continue
		}
		stop, seg := p.bracket(end)
		if stop < 0 {
			break
		}
		if end, dotted = stop, false; seg.sub == nil {
			pe.segs = appendKey(pe.segs, seg.key)
		} else {
			pe.segs = append(pe.segs, seg)
		}
	}
	pe.text = p.src[i:end]
	if dotted && len(pe.segs) > 0 {
		pe.tail = pe.text[len(pe.root)+1:]
	}
	return end, pe
}

func (p *parser) bracket(i int) (int, segment) {
	if p.src[i] != '[' {
		return -1, segment{}
	}
	end, seg := p.bracketed(i + 1)
	if end < 0 || end >= len(p.src) || p.src[end] != ']' {
		p.miss(max(end, i+1), "`]`")
		return -1, segment{}
	}
	return end + 1, seg
}

func (p *parser) bracketed(i int) (int, segment) {
	if end := p.integer(i); end >= 0 {
		return end, newSegment(p.src[i:end])
	}
	if end, s := p.str(i); end >= 0 {
		if p.src[i] == '`' { // as in Tera the name of a variable, quotes and all, that nobody can set
			return end, segment{index: -1, sub: &path{pos: int32(i), text: p.src[i:end], root: p.src[i:end]}}
		}
		return end, newSegment(s)
	}
	end, sub := p.path(i)
	return end, segment{index: -1, sub: sub}
}

func newSegment(key string) segment { return segment{key: key, index: arrayIndex(key)} }

// arrayIndex returns key as an index, or -1: digits without a leading zero.
func arrayIndex(key string) int {
	if key == "" || len(key) > 18 || key[0] == '0' && len(key) > 1 {
		return -1
	}
	n := 0
	for i := range len(key) {
		c := key[i]
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return n
}

// number = float | int
func (p *parser) number(i int) (int, *expr) {
	end := p.integer(i)
	if end < 0 {
		return -1, nil
	}
	if end+1 < len(p.src) && p.src[end] == '.' && isDigit(p.src[end+1]) {
		for end++; end < len(p.src) && isDigit(p.src[end]); end++ {
		}
		f, err := strconv.ParseFloat(p.src[i:end], 64)
		if err != nil || math.IsInf(f, 0) {
			p.fail(i, "the number %s is out of range", p.src[i:end])
			return -1, nil
		}
		return end, &expr{pos: int32(i), value: f}
	}
	n, err := strconv.ParseInt(p.src[i:end], 10, 64)
	if err != nil {
		p.fail(i, "the integer %s does not fit 64 bits", p.src[i:end])
		return -1, nil
	}
	return end, &expr{pos: int32(i), value: n}
}

// integer = "-"? ("0" | digit from 1 to 9, digits)
func (p *parser) integer(i int) int {
	if i < 0 {
		return -1
	}
	if i < len(p.src) && p.src[i] == '-' {
		i++
	}
	if i >= len(p.src) || !isDigit(p.src[i]) {
		return -1
	}
	if p.src[i] == '0' {
		return i + 1
	}
	for i < len(p.src) && isDigit(p.src[i]) {
		i++
	}
	return i
}

// str reads a string in any of three quotes. There are no escapes.
func (p *parser) str(i int) (int, string) {
	if i < 0 || i >= len(p.src) {
		return -1, ""
	}
	switch q := p.src[i]; q {
	case '"', '\'', '`':
		n := strings.IndexByte(p.src[i+1:], q)
		if n < 0 {
			p.miss(len(p.src), fmt.Sprintf("a closing %c", q))
			return -1, ""
		}
		return i + n + 2, p.src[i+1 : i+1+n]
	}
	return -1, ""
}

func (p *parser) ident(i int) int {
	if i < 0 || i >= len(p.src) || !isIdentStart(p.src[i]) {
		return -1
	}
	for i++; i < len(p.src) && isIdent(p.src[i]); i++ {
	}
	return i
}

func (p *parser) ws(i int) int {
	for i >= 0 && i < len(p.src) && isBlank(p.src[i]) {
		i++
	}
	return i
}

// ws1 skips at least one whitespace character, or returns -1.
func (p *parser) ws1(i int) int {
	if i < 0 || i >= len(p.src) || !isBlank(p.src[i]) {
		return -1
	}
	return p.ws(i)
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isIdentStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}
func isIdent(c byte) bool { return isIdentStart(c) || isDigit(c) }
