package server

import (
	"context"
	"errors"
)

// CreateTopic makes a topic that clients read and write, with queues 0 to queues-1 (1 to 65536), or gives one that is there as many. When
// it returns without an error the topic is stored and routed.
func (s *Server) CreateTopic(ctx context.Context, name string, queues int32) error {
	if s.broker == nil {
		return errors.New("cannot create topic " + name + ": the node is not started, or runs no broker (Config.Roles)")
	}
	stored := make(chan error, 1)
	if err := s.broker.CreateTopic(name, queues, func(err error) { stored <- err }); err != nil {
		return err
	}
	select {
	case err := <-stored:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
