package server_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/apogeemq/apogee/server"
)

// A broker within another program. In a test, servertest.Start is shorter.
func Example() {
	ctx := context.Background()
	node, err := server.New(server.MemoryConfig())
	if err != nil {
		log.Fatal(err)
	}
	if err := node.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := node.CreateTopic(ctx, "orders", 4); err != nil {
		log.Fatal(err)
	}

	// RocketMQ clients connect to the name server at node.NamesrvAddr(); it tells them the broker's address.
	ready, err := http.Get("http://" + node.AdminAddr() + "/readyz")
	if err != nil {
		log.Fatal(err)
	}
	defer ready.Body.Close()
	fmt.Println(ready.Status)

	if err := node.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: 200 OK
}
