package gateway

import (
	"net"
	"net/http"
)

// door bounds the connections of clients. However many come, descriptors stay
// for the model's connections, its restarts and the captured answers; without
// them a crowd of clients would look like a broken model. Who finds the door
// shut waits in the kernel's queue until somebody leaves.
type door chan struct{}

// newDoor leaves two thirds of few descriptors, or as many as the requests in flight
// can need.
func newDoor(descriptors int) door {
	return make(door, max(1, descriptors-min(2*descriptors/3, 2*DefaultMaxInFlight)))
}

// guard is l behind the door; the server must tell left of its connections.
func (d door) guard(l net.Listener) net.Listener { return doorListener{l, d} }

// left is an http.Server's ConnState.
func (d door) left(_ net.Conn, s http.ConnState) {
	if s == http.StateClosed || s == http.StateHijacked {
		<-d
	}
}

type doorListener struct {
	net.Listener
	door door
}

// Accept waits for room, then for a connection.
func (l doorListener) Accept() (net.Conn, error) {
	l.door <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.door
	}
	return c, err
}
