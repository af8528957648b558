package generate

import "context"

// crew bounds how many outputs of a run are rendered at once, whether they come from
// many templates or from many rows of one. Each place that is taken is in the channel.
type crew chan struct{}

// newCrew returns a crew of so many places; zero means [maxWorkers].
func newCrew(places int) crew {
	if places < 1 {
		places = maxWorkers
	}
	return make(crew, places)
}

// join waits for a place. leave gives it back.
func (c crew) join(ctx context.Context) (leave func(), err error) {
	select {
	case c <- struct{}{}:
		return func() { <-c }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// hire takes what places are free, for one who has one, so that at most n work
// together. It never waits. dismiss gives them back.
func (c crew) hire(n int) (together int, dismiss func()) {
	together = 1
	for together < n {
		select {
		case c <- struct{}{}:
			together++
			continue
		default:
		}
		break
	}
	return together, func() {
		for range together - 1 {
			<-c
		}
	}
}
