// Command service is the service of the tests: it behaves as MODE says.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	mode, version := os.Getenv("MODE"), os.Getenv("VERSION")
	if mode == "exits" {
		fmt.Fprintln(os.Stderr, "cannot go on")
		os.Exit(7)
	}
	http.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if mode == "sick" {
			http.Error(w, "sick", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/version", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		time.Sleep(time.Millisecond)
		w.Header().Set("X-Body", fmt.Sprint(n))
		fmt.Fprintln(w, version)
	})
	http.HandleFunc("/whoami", func(w http.ResponseWriter, _ *http.Request) {
		dir, _ := os.Getwd()
		_, hostRoot := os.Stat("/etc/passwd")
		fmt.Fprintln(w, os.Getuid(), os.Getgid(), dir, hostRoot == nil)
	})
	http.HandleFunc("/groups", func(w http.ResponseWriter, _ *http.Request) {
		groups, err := os.Getgroups()
		fmt.Fprintln(w, groups, err)
	})
	http.HandleFunc("/write", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, os.WriteFile(r.URL.Query().Get("file"), nil, 0o600))
	})
	http.HandleFunc("/crash", func(http.ResponseWriter, *http.Request) { os.Exit(9) })
	if mode == "broken" {
		http.HandleFunc("/smoke", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	}
	http.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	server := &http.Server{Addr: os.Getenv("LISTEN") + ":" + os.Getenv("PORT")}
	go func() {
		<-ctx.Done()
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != http.ErrServerClosed {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
