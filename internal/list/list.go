// Package list is doubly linked lists whose elements are part of their values.
package list

// List is a doubly linked list whose elements are part of their values, so that
// moving one allocates nothing and removing one needs no search.
type List[T any] struct {
	Head, Tail *Element[T]
	Len        int
}

// Element holds a value in at most one list.
type Element[T any] struct {
	Value      T
	prev, Next *Element[T]
	In         *List[T]
}

// PushFront adds an element that is in no list.
func (l *List[T]) PushFront(e *Element[T]) {
	e.In, e.prev, e.Next = l, nil, l.Head
	if l.Head != nil {
		l.Head.prev = e
	} else {
		l.Tail = e
	}
	l.Head = e
	l.Len++
}

// PushBack adds an element that is in no list.
func (l *List[T]) PushBack(e *Element[T]) {
	e.In, e.prev, e.Next = l, l.Tail, nil
	if l.Tail != nil {
		l.Tail.Next = e
	} else {
		l.Head = e
	}
	l.Tail = e
	l.Len++
}

// Leave removes the element from its list, if it is in one.
func (e *Element[T]) Leave() {
	l := e.In
	if l == nil {
		return
	}
	if e.prev != nil {
		e.prev.Next = e.Next
	} else {
		l.Head = e.Next
	}
	if e.Next != nil {
		e.Next.prev = e.prev
	} else {
		l.Tail = e.prev
	}
	e.In, e.prev, e.Next = nil, nil, nil
	l.Len--
}
