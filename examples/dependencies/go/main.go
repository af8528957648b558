// Label prints a new label for a parcel.
package main

import (
	"fmt"

	"example.com/label/label"
)

func main() { fmt.Println(label.New()) }
