// Package fleet lets the libraries of GitOps tools manage one cluster through another:
// watches of a real kube-apiserver, the spoke, through a real kube-apiserver, the hub, with
// the built operator beside it. Meanwhile objects change in the spoke, the credential in the
// Secret is replaced and the old one revoked, watchers relist, and the operator restarts.
// Each watcher must learn of every change once and in order.
//
//	go test ./test/fleet -v
//	go test ./test/fleet -v -timeout 0 -run Watches -soak 1h -watches 200 -rate 20
//
// It prints what the watchers and the operator have seen. A watcher is client-go's
// reflector, which is what the caches of Argo CD and Flux are made of.
package fleet
