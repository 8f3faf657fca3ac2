// Package serving makes the live API trusted and found: it issues and rotates the
// certificate with which all replicas serve, tells kube-apiserver which authority
// to believe, and routes the Service to the replica that holds the connections.
//
//	keeper, err := serving.NewKeeper(config, serving.Options{Namespace: "connpool-system", Service: "connpool-live"})
//	err = keeper.EnsureCertificate(ctx)   // before anything serves
//	server.Certificate = keeper           // dynamiccertificates.CertKeyContentProvider
//	metrics.GetCertificate = keeper.GetCertificate
//	mgr.Add(keeper)                       // every replica
//	mgr.Add(publisher)                    // leader only
//
// One Secret of the operator's namespace is all the state there is: a bundle of
// authorities, the key of the newest, a certificate and its key. Every replica
// reads it once a minute, decides alone what is due, and writes with the version
// that it has read. So nobody has to lead, and two that decide at once cannot
// undo one another: the slower one reads again and finds nothing left to do.
//
// What is due is a pure function of the Secret and the time (see renew). An
// authority enters the bundle a day before it may sign, and stays until all that
// it signed has run out; whoever believes the bundle notices no rotation.
//
// Trade-offs: cert-manager does this better where it is installed, and then none
// of this runs. But an operator that cannot be installed without another one is
// installed less. Secrets are polled, not watched: the manager's cache must not
// see Secrets that are not credentials, and a minute is short beside a day.
package serving
