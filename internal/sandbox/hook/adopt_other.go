//go:build !linux

package hook

func adopt() {}

func endAdopted() {}
