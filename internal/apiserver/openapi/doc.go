// Package openapi describes the live API's types to clients. It is generated
// from the types' comments.
package openapi
