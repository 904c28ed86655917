// Package long has sizes.
package long

type wide struct { // want the struct has 5 fields, more than 4
	a, b, c, d, e int
}

func long(x int) int { // want long has 14 lines, more than 12
	x++
	x++
	x++
	x++
	x++
	x++
	x++
	x++
	x++
	x++
	x++
	return x
}

func table() []int {
	return []int{
		1,
		2,
		3,
		4,
		5,
		6,
		7,
		8,
		9,
		10,
		11,
		12,
	}
}
