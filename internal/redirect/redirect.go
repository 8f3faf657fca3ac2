// Package redirect lets the redirects of a target pass a proxy that refuses them.
//
// kube-apiserver is between our client and the operator. It answers 502 in the place
// of a server behind it that redirects, so that no client follows one to where that
// server wants. Our client follows none: it returns them, as it would without a proxy
// in between. So it asks for the address under another name, and turns it back.
//
//	redirect.Ask(request.Header)      // client
//	asked := redirect.Take(req)       // server, before the request goes to the target
//	redirect.Rename(answer, asked)    // server
//	redirect.Restore(response)        // client
//
// A client that does not ask gets redirects as they are, which kube-apiserver refuses.
//
// Trade-off: two headers that only our own client knows.
package redirect

import "net/http"

const (
	location = "Location"
	// wish asks for locations under another name, and renamed is that name.
	wish    = "Connpool-Rename-Location"
	renamed = "Connpool-Location"
	version = "1"
)

// Ask adds the wish to the headers of a request.
func Ask(request http.Header) { request.Set(wish, version) }

// Take removes the wish from the headers of a request, and reports whether it was there.
func Take(request http.Header) bool {
	asked := request.Get(wish) == version
	request.Del(wish)
	return asked
}

// Rename gives the location of an answer the other name, if that was asked for.
func Rename(answer http.Header, asked bool) {
	if place := answer.Get(location); asked && place != "" {
		answer.Del(location)
		answer.Set(renamed, place)
	}
}

// Restore gives the location of an answer its own name.
func Restore(answer http.Header) {
	if place := answer.Get(renamed); place != "" {
		answer.Del(renamed)
		answer.Set(location, place)
	}
}
