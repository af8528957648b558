//go:build !helper || (!amd64 && !arm64)

package embedded

// helperImage is empty in what the go command builds without more: the program is
// started again itself.
var helperImage string
