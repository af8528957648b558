//go:build helper

package embedded

import _ "embed"

//go:embed helper_linux_amd64
var helperImage string
