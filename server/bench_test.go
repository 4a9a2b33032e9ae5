package server_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"testing"

	"github.com/apogeemq/apogee/protocol"
	"github.com/apogeemq/apogee/server"
)

// BenchmarkSends is the whole way of a message: from a socket through a node on disk to the answer, in rounds of 64 on 8 connections. One
// operation is one message; allocations are the server's, for the client has none.
func BenchmarkSends(b *testing.B) {
	for _, kind := range []struct{ size, batch int }{{128, 1}, {1024, 1}, {1024, 32}} {
		b.Run(fmt.Sprintf("%dx%d", kind.batch, kind.size), func(b *testing.B) { benchmarkSends(b, kind.size, kind.batch) })
	}
}

const benchRound, benchConnections = 64, 8

func benchmarkSends(b *testing.B, size, batch int) {
	turn := sendRounds(b, size, batch)
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	for sent := 0; sent < b.N; sent += benchRound * benchConnections {
		turn()
	}
}

// sendAllocationsMax is what a message may cost, in allocations: what a round and a group commit cost is shared by their messages, and a
// message by itself costs nothing.
const sendAllocationsMax = 0.5

func TestAMessageIsSentWithoutAllocations(t *testing.T) {
	for _, batch := range []int{1, 32} {
		t.Run(fmt.Sprint("batches of ", batch), func(t *testing.T) {
			turn := sendRounds(t, 1024, batch)
			for range 20 { // what is kept for reuse is made first
				turn()
			}
			each := testing.AllocsPerRun(100, turn) / (benchRound * benchConnections)
			t.Logf("%.3f allocations a message", each)
			if each > sendAllocationsMax {
				t.Errorf("%.3f allocations a message, want at most %.1f", each, sendAllocationsMax)
			}
		})
	}
}

// sendRounds starts a node and returns what sends rounds on all connections and reads the answers.
func sendRounds(b testing.TB, size, batch int) (turn func()) {
	c := server.DefaultConfig()
	c.Dir, c.Listen, c.LogLevel = b.TempDir(), "127.0.0.1", "error"
	c.NamesrvPort, c.BrokerPort, c.AdminPort = 0, 0, 0
	s, err := server.New(c)
	if err == nil {
		err = s.Start(context.Background())
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	var conns []net.Conn
	var answers []*bufio.Reader
	for range benchConnections {
		conn, err := net.Dial("tcp", s.BrokerAddr())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		conns, answers = append(conns, conn), append(answers, bufio.NewReaderSize(conn, 256<<10))
	}
	requests := benchRound / batch
	round := benchFrames(size, batch, requests)
	turn = func() {
		for _, conn := range conns {
			if _, err := conn.Write(round); err != nil {
				b.Fatal(err)
			}
		}
		for _, r := range answers {
			for range requests {
				readAnswer(b, r)
			}
		}
	}
	turn() // makes the topic
	return turn
}

// benchFrames encodes requests of a producer that sends properties as clients do.
func benchFrames(size, batch, requests int) (round []byte) {
	properties := "UNIQ_KEY\x01C0A8000100002A9F4D1C18B4AAC20000\x02WAIT\x01true"
	code, body := protocol.ReqSendMessageV2, make([]byte, size)
	if batch > 1 {
		code = protocol.ReqSendBatchMessage
		var item []byte
		item = binary.BigEndian.AppendUint32(item, uint32(4+4+4+4+4+size+2+len(properties)))
		item = binary.BigEndian.AppendUint32(append(item, make([]byte, 12)...), uint32(size))
		item = binary.BigEndian.AppendUint16(append(item, body...), uint16(len(properties)))
		item, body = append(item, properties...), nil
		for range batch {
			body = append(body, item...)
		}
	}
	for i := range requests {
		cmd := protocol.NewRequest(code, nil)
		for _, f := range [][2]string{{"a", "P"}, {"b", "Bench"}, {"c", "TBW102"}, {"d", "8"}, {"e", strconv.Itoa(i % 4)}, {"f", "0"}, {"g", "1700000000000"},
			{"h", "0"}, {"i", properties}, {"j", "0"}, {"m", strconv.FormatBool(batch > 1)}} {
			cmd.Fields.Add(f[0], f[1])
		}
		cmd.Body, cmd.Serialize, cmd.Opaque = body, protocol.SerializeBinary, int32(i)
		round = protocol.AppendFrame(round, cmd, 0)
	}
	return round
}

// readAnswer reads the answer to a send, which must be a success.
func readAnswer(b testing.TB, r *bufio.Reader) {
	head, err := r.Peek(10) // length 4, serialisation and header length 4, code 2
	if err != nil {
		b.Fatal(err)
	}
	if code := binary.BigEndian.Uint16(head[8:]); code != 0 {
		b.Fatalf("answered %d", code)
	}
	if _, err := r.Discard(4 + int(binary.BigEndian.Uint32(head))); err != nil {
		b.Fatal(err)
	}
}
