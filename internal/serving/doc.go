// Package serving makes the live API trusted and found: it issues and rotates the
// certificate with which all replicas serve, tells kube-apiserver which authority
// to trust, and points the Service at the replica that holds the connections.
//
//	rotator, err := serving.NewCertRotator(config, serving.Options{Namespace: "connpool-system", Service: "connpool-live"})
//	err = rotator.EnsureCertificate(ctx)  // before anything serves
//	server.Certificate = rotator          // dynamiccertificates.CertKeyContentProvider
//	mgr.Add(rotator)                      // every replica
//	mgr.Add(publisher)                    // leader only
//
// One Secret in the operator's namespace is all the state there is: a bundle of
// authorities, the key of the newest, a certificate and its key. Every replica
// reads it when it changes and once a minute, decides alone what is due, and writes with the version
// that it has read. So no replica has to lead, and two that decide at once cannot
// undo one another: the slower one reads again and finds nothing left to do.
//
// What is due is a pure function of the Secret and the time (see renew). An
// authority enters the bundle a day before it may sign, and stays until all that
// it signed has run out. A client that trusts the bundle notices no rotation.
//
// Trade-offs: where cert-manager is installed it does this better, and then none
// of this runs. But an operator that cannot be installed without another one is
// installed less. A Secret that is deleted or spoiled is written again from memory, so
// an authority that must not be trusted any more has to be emptied, not deleted.
package serving
