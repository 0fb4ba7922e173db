// Package progress shows how work that moves bytes goes: on a terminal a bar for each
// piece that is under way and one for all of it, plain lines where there is no terminal,
// events of JSON, or nothing.
//
// It promises that no call but Close waits for a terminal, that what is shown of names
// and sentences is printable, that no row is wider than the terminal nor the bars higher
// than it, that all of it is never more than 100 %, and that after Close nothing more is
// written. It sets no colours, and leaves the cursor alone. It does not know what moves,
// nor where to.
//
// Lock order: every lock in this package is a leaf.
package progress

// A Sink hears how a piece of work goes. Its methods may be called concurrently.
type Sink interface {
	// Expect adds bytes to those that there are to move in all.
	Expect(bytes int64)
	// Start begins a piece, such as a blob, of size bytes; -1 when unknown. Whoever
	// starts it ends it.
	Start(name string, size int64) Line
	// Say tells a sentence, in the language of who reads.
	Say(sentence string)
}

// A Line is one piece under way. Only one goroutine may use it at a time.
type Line interface {
	// Add tells that n more bytes have moved; negative where some must move again.
	Add(n int64)
	// End tells how it ended, once. A piece that is done or was there counts with all
	// of its bytes, whatever was added; one that failed counts with none.
	End(s State)
}

// A State is what a piece does, or how it ended.
type State string

// How a piece ends.
const (
	Done    State = "done"
	Present State = "present" // it was there already
	Failed  State = "failed"
)

// What a piece does. One that nobody said anything of moves.
const (
	Waiting    State = "waiting"
	Moving     State = "downloading"
	Moved      State = "downloaded"
	Extracting State = "extracting"
)

// None is a Sink that hears nothing.
func None() Sink { return none{} }

type none struct{}

func (none) Expect(int64)             {}
func (none) Start(string, int64) Line { return none{} }
func (none) Say(string)               {}
func (none) Add(int64)                {}
func (none) End(State)                {}
