package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.compression.CompressionType;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class SendTest {
    private static final int BODY_BYTES_MAX = 4 << 20;
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    @Test
    void syncSendIsAcknowledgedWithOffsetsAndDelivered() throws Exception {
        String topic = clients.topic(4);
        DefaultMQProducer producer = clients.producer();
        Map<Integer, Long> nextOffset = new HashMap<>();
        Set<String> ids = new HashSet<>();
        List<String> bodies = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            bodies.add("message " + i);
            SendResult result = send(producer, message(topic, "message " + i));
            int queue = result.getMessageQueue().getQueueId();
            assertEquals(nextOffset.getOrDefault(queue, 0L), result.getQueueOffset(), "offset in queue " + queue);
            nextOffset.merge(queue, 1L, Long::sum);
            assertTrue(ids.add(result.getMsgId()) && ids.add(result.getOffsetMsgId()), result.toString());
        }
        assertEquals(4, nextOffset.size(), "queues used in turn");
        Inbox inbox = clients.read(topic, bodies.size());
        inbox.awaitExactly(bodies);
        for (MessageExt m : inbox.all()) {
            assertTrue(ids.contains(m.getMsgId()), m.getMsgId());
        }
    }

    @Test
    void asyncSendsAreAcknowledgedAndDelivered() throws Exception {
        String topic = clients.topic(4);
        DefaultMQProducer producer = clients.producer();
        List<String> bodies = new ArrayList<>();
        CountDownLatch acknowledged = new CountDownLatch(200);
        AtomicReference<Object> failure = new AtomicReference<>();
        for (int i = 0; i < 200; i++) {
            bodies.add("message " + i);
            producer.send(message(topic, "message " + i), new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    if (result.getSendStatus() != SendStatus.SEND_OK) {
                        failure.set(result);
                    }
                    acknowledged.countDown();
                }

                @Override
                public void onException(Throwable e) {
                    failure.set(e);
                    acknowledged.countDown();
                }
            });
        }
        assertTrue(acknowledged.await(Await.MAX.toSeconds(), TimeUnit.SECONDS), "every send calls back");
        assertNull(failure.get());
        Inbox inbox = clients.read(topic, bodies.size());
        inbox.awaitExactly(bodies);
    }

    @Test
    void oneWaySendsAreDelivered() throws Exception {
        String topic = clients.topic(4);
        DefaultMQProducer producer = clients.producer();
        List<String> bodies = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            bodies.add("message " + i);
            producer.sendOneway(message(topic, "message " + i));
        }
        Inbox inbox = clients.read(topic, bodies.size());
        inbox.awaitExactly(bodies);
    }

    @Test
    void batchKeepsMessagesApartAndInOrder() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        for (int b = 0; b < 3; b++) {
            List<Message> batch = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                Message m = message(topic, String.valueOf(b * 20 + i));
                m.setTags("Tag" + i);
                m.putUserProperty("index", String.valueOf(i));
                batch.add(m);
            }
            SendResult result = producer.send(batch);
            assertEquals(SendStatus.SEND_OK, result.getSendStatus());
            assertEquals(b * 20, result.getQueueOffset());
            assertEquals(20, result.getMsgId().split(",").length, "ids");
            assertEquals(20, result.getOffsetMsgId().split(",").length, "offset ids");
        }
        List<MessageExt> got = clients.read(topic, 60).all();
        assertEquals(60, got.size());
        for (MessageExt m : got) {
            assertEquals(String.valueOf(m.getQueueOffset()), Inbox.body(m));
            assertEquals("Tag" + m.getQueueOffset() % 20, m.getTags());
            assertEquals(String.valueOf(m.getQueueOffset() % 20), m.getUserProperty("index"));
        }
    }

    @Test
    void selectorKeepsTheOrderOfEachKey() throws Exception {
        String topic = clients.topic(4);
        DefaultMQProducer producer = clients.producer();
        for (int i = 0; i < 30; i++) {
            for (String key : List.of("anna", "bert", "carl", "dora", "emil")) {
                Message m = message(topic, String.valueOf(i));
                m.putUserProperty("key", key);
                SendResult result = producer.send(m, new SelectMessageQueueByHash(), key);
                assertEquals(SendStatus.SEND_OK, result.getSendStatus());
            }
        }
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.newPush(Names.unique("group"));
        push.subscribe(topic, "*");
        push.registerMessageListener(inbox.orderly());
        clients.start(push);
        Map<String, Integer> next = new HashMap<>();
        for (MessageExt m : inbox.await(150)) {
            String key = m.getUserProperty("key");
            assertEquals(next.getOrDefault(key, 0), Integer.parseInt(Inbox.body(m)), "next of " + key);
            next.merge(key, 1, Integer::sum);
        }
        assertEquals(5, next.size());
    }

    @ParameterizedTest
    @EnumSource(CompressionType.class)
    void compressedBodyIsStoredCompressedAndArrivesWhole(CompressionType type) throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.newProducer();
        producer.setCompressType(type);
        clients.start(producer);
        byte[] body = "0123456789abcdef".repeat(1 << 16).getBytes(StandardCharsets.UTF_8);
        send(producer, new Message(topic, body));
        MessageExt got = clients.read(topic, 1).all().get(0);
        assertArrayEquals(body, got.getBody());
        assertTrue(got.getStoreSize() < body.length / 10, "stored in " + got.getStoreSize() + " bytes");
    }

    @Test
    void firstSendCreatesTheTopicWithTheQueuesAskedFor() throws Exception {
        String topic = Names.unique("topic");
        assertEquals(0, clients.queuesInRoute(topic));
        DefaultMQProducer producer = clients.newProducer();
        producer.setDefaultTopicQueueNums(3);
        clients.start(producer);
        send(producer, message(topic, "first"));
        clients.awaitRoute(topic, 3);
        clients.read(topic, 1).awaitExactly(List.of("first"));
    }

    @Test
    void keysTagsFlagAndPropertiesRoundTrip() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        Message m = message(topic, "body");
        m.setTags("TagA");
        m.setKeys(Arrays.asList("order-1", "order-2"));
        m.setFlag(0x1234);
        Map<String, String> properties = Map.of("plain", "value", "spaces", " with spaces ", "texts", "naïve 日本語 🚀",
            "json", "{\"a\":\"b=c;d\"}");
        properties.forEach(m::putUserProperty);
        SendResult result = send(producer, m);
        MessageExt got = clients.read(topic, 1).all().get(0);
        assertEquals("TagA", got.getTags());
        assertEquals("order-1 order-2", got.getKeys());
        assertEquals(0x1234, got.getFlag());
        properties.forEach((key, value) -> assertEquals(value, got.getUserProperty(key), key));
        assertEquals(result.getMsgId(), got.getMsgId());
        assertEquals(topic, got.getTopic());
        assertEquals(0, got.getReconsumeTimes());
        assertTrue(got.getBornTimestamp() > 0 && got.getStoreTimestamp() > 0);
    }

    @Test
    void bodyOfTheMaximumSizeIsTakenAndOneByteMoreRefused() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.newProducer();
        producer.setMaxMessageSize(4 * BODY_BYTES_MAX);
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        producer.setSendMsgTimeout(20_000);
        clients.start(producer);
        byte[] body = new byte[BODY_BYTES_MAX];
        new Random(1).nextBytes(body);
        send(producer, new Message(topic, body));
        MQBrokerException refused = assertThrows(MQBrokerException.class,
            () -> producer.send(new Message(topic, new byte[BODY_BYTES_MAX + 1])));
        assertEquals(ResponseCode.MESSAGE_ILLEGAL, refused.getResponseCode(), refused.getMessage());
        List<MessageExt> stored = clients.read(topic, 1).all();
        assertEquals(1, stored.size());
        assertArrayEquals(body, stored.get(0).getBody());
    }
}
