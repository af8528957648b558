package cleanroom

import (
	"bytes"
	"strings"
	"testing"
)

// A secret is hidden in every form in which it is printed, however it is cut; what only
// begins like one comes out whole.
func TestRedactor(t *testing.T) {
	t.Parallel()
	secrets := secretsOf([]string{"HOME=/work", "DB_PASSWORD=p<a ss/w\"ord", "PGPASSWORD=p<a ss/w\"ord", "REDIS_PASSWORD=second", "SHORT_PASSWORD=abc"})
	const in = `plain p<a ss/w"ord, in JSON p\u003ca ss/w\"ord, in a URL p%3Ca%20ss%2Fw%22ord, seconsecond sec abc /work p<a ss`
	const want = `plain ***, in JSON ***, in a URL ***, secon*** sec abc /work p<a ss`
	for chunk := 1; chunk < len(in)+1; chunk++ {
		var out bytes.Buffer
		r := &redactor{to: &out, secrets: secrets}
		for text := in; text != ""; {
			n := min(chunk, len(text))
			if m, err := r.Write([]byte(text[:n])); m != n || err != nil {
				t.Fatal(m, err)
			}
			text = text[n:]
		}
		if strings.Contains(out.String(), "p<a ss") {
			t.Errorf("chunks of %d: the beginning of a secret is out: %q", chunk, out.String())
		}
		if err := r.flush(); err != nil || out.String() != want {
			t.Errorf("chunks of %d: %v\n%s", chunk, err, out.String())
		}
	}
}
