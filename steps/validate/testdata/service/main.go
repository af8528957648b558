// Command service serves over HTTP and stops as the variable MODE says: well, or
// in one of the ways that a check must find.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	mode := os.Getenv("MODE")
	switch mode {
	case "crash":
		fmt.Fprintln(os.Stderr, "cannot find my configuration")
		os.Exit(7)
	case "deaf":
		time.Sleep(time.Hour)
	}
	status := http.StatusOK
	if mode == "sick" {
		status = http.StatusServiceUnavailable
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("LISTEN"), os.Getenv("PORT")))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	answers := 0
	var stopping atomic.Bool
	server := &http.Server{ReadHeaderTimeout: 3 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if mode == "sorry" {
			io.Copy(io.Discard, r.Body) // what was accepted is not done before it is there
			if stopping.Load() {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
		}
		w.WriteHeader(status)
		fmt.Fprintln(w, "here")
		if answers++; mode == "tired" && answers == 50 {
			os.Exit(0)
		}
	})}
	told := make(chan os.Signal, 1)
	if mode != "deadly" {
		signal.Notify(told, syscall.SIGTERM)
	}
	go server.Serve(listener)
	<-told
	stopping.Store(true)
	stop(mode, server)
}

func stop(mode string, server *http.Server) {
	switch mode {
	case "abrupt":
		os.Exit(0)
	case "closing":
		server.Close()
	case "stubborn":
		time.Sleep(time.Hour)
	case "lingering":
		time.Sleep(300 * time.Millisecond)
		server.Shutdown(context.Background())
	case "failing":
		server.Shutdown(context.Background())
		os.Exit(3)
	default:
		server.Shutdown(context.Background())
	}
}
