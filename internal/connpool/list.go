package connpool

// list is a doubly linked list whose elements are part of their values, so that
// moving one allocates nothing and removing one needs no search.
type list[T any] struct {
	head, tail *element[T]
	len        int
}

// element holds a value in at most one list.
type element[T any] struct {
	value      T
	prev, next *element[T]
	in         *list[T]
}

func (l *list[T]) pushFront(e *element[T]) {
	e.in, e.prev, e.next = l, nil, l.head
	if l.head != nil {
		l.head.prev = e
	} else {
		l.tail = e
	}
	l.head = e
	l.len++
}

func (l *list[T]) pushBack(e *element[T]) {
	e.in, e.prev, e.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = e
	} else {
		l.head = e
	}
	l.tail = e
	l.len++
}

// leave removes the element from its list, if it is in one.
func (e *element[T]) leave() {
	l := e.in
	if l == nil {
		return
	}
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.tail = e.prev
	}
	e.in, e.prev, e.next = nil, nil, nil
	l.len--
}
