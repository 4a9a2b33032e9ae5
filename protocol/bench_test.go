package protocol

import "testing"

// javaSend is SEND_MESSAGE_V2 as the Java client 5.5.0 writes it.
const javaSend = `{"code":310,"extFields":{"a":"ProducerGroup","b":"TopicTest","c":"TBW102","d":"4","e":"3","f":"0","g":"1763720000000",` +
	`"h":"0","i":"KEYS\u0001OrderID188\u0002UNIQ_KEY\u00017F000001168A1B28353150D1E0C80000\u0002WAIT\u0001true\u0002TAGS\u0001TagA\u0002",` +
	`"j":"0","k":"false","m":"false","n":"broker-a"},"flag":0,"language":"JAVA","opaque":5,"serializeTypeCurrentRPC":"JSON","version":513}`

func frameOf(header string, s Serialization, body []byte) []byte {
	b := append(make([]byte, FrameHeadSize), header...)
	FinishFrame(b, 0, s, len(body))
	return append(b, body...)
}

func BenchmarkDecodeJSON(b *testing.B) {
	benchmarkDecode(b, frameOf(javaSend, SerializeJSON, make([]byte, 128)))
}

func BenchmarkDecodeBinary(b *testing.B) {
	var c Command
	if err := Decode(frameOf(javaSend, SerializeJSON, make([]byte, 128)), &c); err != nil {
		b.Fatal(err)
	}
	c.Serialize = SerializeBinary
	benchmarkDecode(b, AppendFrame(nil, &c, 0))
}

func benchmarkDecode(b *testing.B, frame []byte) {
	var c Command
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Decode(frame, &c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSendAnswer(b *testing.B) {
	for name, s := range map[string]Serialization{"json": SerializeJSON, "binary": SerializeBinary} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 1024)
			id, key := []byte("7F00000100002A9F00000000000A2B3C"), []byte("7F000001168A1B28353150D1E0C80000")
			b.ReportAllocs()
			for b.Loop() {
				dst = appendSendAnswer(dst[:0], s, id, key)
			}
		})
	}
}

func appendSendAnswer(dst []byte, s Serialization, id, key []byte) []byte {
	w := BeginResponse(dst, s, RespSuccess, 77)
	w.Int("queueId", 3)
	w.Text("msgId", id)
	w.Text("transactionId", key)
	w.Int("queueOffset", 123456789)
	w.String("MSG_REGION", "DefaultRegion")
	w.String("TRACE_ON", "true")
	return w.Finish()
}
