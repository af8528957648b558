//go:build !linux

// Package terminaltest opens terminals for tests of what is drawn on one.
package terminaltest
