package progress

// Begin counts what was there of a file already. If its stream broke before, only the
// difference to what was counted then is new.
func (m *Meter) Begin(name string, offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	counted, again := m.broken[name]
	if !again {
		m.Skip(offset)
		return
	}
	m.done.Add(offset - counted)
	m.broken[name] = 0
}

// Broke says that a stream broke when n bytes more of a file were counted.
func (m *Meter) Broke(name string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken == nil {
		m.broken = map[string]int64{}
	}
	m.broken[name] += n
}

// HasBroken reports whether a stream of the file broke.
func (m *Meter) HasBroken(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, broken := m.broken[name]
	return broken
}
