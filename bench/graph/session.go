package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// request asks an engine to load a Turtle file, or to run a query again and
// again until the budget of nanoseconds is spent, once at least.
type request struct {
	Load   string `json:"load,omitempty"`
	Query  string `json:"query,omitempty"`
	Budget int64  `json:"budget,omitempty"`
}

// answer has the time of each run in nanoseconds, as the engine's own process
// measures it, and the number of rows of the last, or of triples loaded.
type answer struct {
	Times []int64 `json:"ns"`
	Rows  int     `json:"rows"`
}

// session is an engine in a process of its own that holds one graph. It takes
// a request a line on standard input and gives an answer a line.
type session struct {
	engine engine
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

func open(ctx context.Context, e engine) (*session, error) {
	s := &session{engine: e, cmd: exec.CommandContext(ctx, e.argv[0], e.argv[1:]...)}
	s.cmd.Stderr = &s.stderr
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.in, s.out = in, bufio.NewReader(out)
	return s, s.cmd.Start()
}

func (s *session) ask(r request) (answer, error) {
	var a answer
	line, err := json.Marshal(r)
	if err == nil {
		_, err = s.in.Write(append(line, '\n'))
	}
	var reply []byte
	if err == nil {
		reply, err = s.out.ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(reply, &a)
	}
	if err == nil && len(a.Times) == 0 {
		err = errors.New("an answer without times")
	}
	if err != nil {
		return a, fmt.Errorf("%s: %w %s", s.engine.name, err, s.stderr.String())
	}
	return a, nil
}

// close ends the process and waits for it.
func (s *session) close() {
	s.in.Close()
	done := time.AfterFunc(10*time.Second, func() { s.cmd.Process.Kill() })
	s.cmd.Wait() // how it ends says nothing any more
	done.Stop()
}

// peak returns the largest resident size of the process so far, in bytes; 0
// where the system does not tell.
func (s *session) peak() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if kilobytes, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kilobytes), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}
