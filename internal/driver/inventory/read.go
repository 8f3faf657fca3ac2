package inventory

import (
	"encoding/json"
	"errors"
	"io"
	"sync"
)

// decoding is held while an entry is decoded: in memory it can be ten times as long as its
// text, and hostile servers choose the text.
var decoding sync.Mutex

// Decode decodes the JSON of one entry and passes it to take, which keeps no more of it
// than it needs: entries of all servers are decoded one at a time.
func Decode[T any](text []byte, take func(*T)) error {
	decoding.Lock()
	defer decoding.Unlock()
	entry := new(T)
	if err := json.Unmarshal(text, entry); err != nil {
		return err
	}
	take(entry)
	return nil
}

// MaxEntry bounds one entry of a server's list, and MaxAnswer all of its answer, in
// bytes. A pod with long annotations has some hundreds of kilobytes.
const (
	MaxEntry  = 1 << 20
	MaxAnswer = 32 << 20
)

// ErrTooLong says that an answer, or an entry of its list, is longer than the bounds.
var ErrTooLong = errors.New("the list, or an entry of it, is too long")

// Read reads a JSON list of entries of the type T, and passes each to take until that
// returns false. The list is the whole answer or, with a key, that member of an object;
// what stands before it in the object is passed over. No more than the text of about two
// entries is held.
func Read[T any](from io.Reader, key string, take func(*T) bool) error {
	source := &allowance{from: from, all: MaxAnswer}
	decoder := json.NewDecoder(source)
	if err := findList(decoder, source, key); err != nil {
		return err
	}
	var text json.RawMessage
	for more := true; more; {
		source.entry = MaxEntry
		if !decoder.More() {
			_, err := decoder.Token() // the end, or what is wrong
			return err
		}
		if err := decoder.Decode(&text); err != nil {
			return err
		}
		if err := Decode(text, func(entry *T) { more = take(entry) }); err != nil {
			return err
		}
	}
	return nil
}

// findList reads up to the beginning of the list.
func findList(decoder *json.Decoder, source *allowance, key string) error {
	if key == "" {
		source.entry = MaxEntry
		return expect(decoder, json.Delim('['))
	}
	source.entry = MaxEntry
	if err := expect(decoder, json.Delim('{')); err != nil {
		return err
	}
	for {
		source.entry = MaxEntry
		name, err := decoder.Token()
		switch {
		case err != nil:
			return err
		case name == json.Delim('}'):
			return errors.New("the answer has no list of " + key)
		case name == key:
			return expect(decoder, json.Delim('['))
		}
		if err := decoder.Decode(new(json.RawMessage)); err != nil {
			return err
		}
	}
}

func expect(decoder *json.Decoder, wanted json.Delim) error {
	got, err := decoder.Token()
	if err == nil && got != wanted {
		err = errors.New("the answer is not a list")
	}
	return err
}

// allowance is a reader of an answer that ends with ErrTooLong when so many bytes of one
// entry, or of the whole, have been read.
type allowance struct {
	from       io.Reader
	entry, all int64
}

// Read implements io.Reader.
func (a *allowance) Read(p []byte) (int, error) {
	room := min(int64(len(p)), a.entry, a.all)
	if room <= 0 {
		return 0, ErrTooLong
	}
	n, err := a.from.Read(p[:room])
	a.entry -= int64(n)
	a.all -= int64(n)
	return n, err
}
