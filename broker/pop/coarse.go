package pop

import "math"

// stepsKept bounds the steps of a coarse.
const stepsKept = 512

// coarse counts runs by their lowest offset, as exactly as few numbers can: a step is 1<<shift offsets wide, and the more apart the runs
// are, the wider steps become.
type coarse struct {
	count int
	steps map[int64]int // that have runs
	shift int
	first int64 // of the steps
}

func (c *coarse) add(low int64) {
	if c.count == 0 {
		*c = coarse{steps: map[int64]int{}, first: math.MaxInt64}
	}
	c.count++
	c.steps[low>>c.shift]++
	c.first = min(c.first, low>>c.shift)
	for len(c.steps) > stepsKept {
		wider := make(map[int64]int, len(c.steps))
		for at, n := range c.steps {
			wider[at>>1] += n
		}
		c.steps, c.shift, c.first = wider, c.shift+1, c.first>>1
	}
}

func (c *coarse) remove(low int64) {
	at := low >> c.shift
	if c.steps[at] == 0 {
		return
	}
	c.count--
	if c.steps[at]--; c.steps[at] > 0 {
		return
	}
	if delete(c.steps, at); at == c.first {
		c.first = math.MaxInt64
		for at := range c.steps {
			c.first = min(c.first, at)
		}
	}
}

// low returns the lowest offset of all, or one below it. There must be some.
func (c *coarse) low() int64 { return c.first << c.shift }
