//go:build helper

package embedded

import _ "embed"

//go:embed helper_linux_arm64
var helperImage string
