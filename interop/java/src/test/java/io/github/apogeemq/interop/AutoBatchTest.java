package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.hook.SendMessageContext;
import org.apache.rocketmq.client.hook.SendMessageHook;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** A producer that makes batches of single sends by itself (autoBatch, ProduceAccumulator). */
class AutoBatchTest {
    private static final int MESSAGES = 300;
    private static final int TAGS = 3;
    private static final int THREADS = 16;
    private static final int DELAY_MILLIS = 50;
    private final AtomicInteger requests = new AtomicInteger();
    private final Map<String, SendResult> results = new ConcurrentHashMap<>();
    private Clients clients;
    private String topic;
    private DefaultMQProducer producer;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
        topic = clients.topic(2);
        producer = clients.newProducer();
        producer.setAutoBatch(true);
        producer.getDefaultMQProducerImpl().registerSendMessageHook(new SendMessageHook() {
            @Override
            public String hookName() {
                return "requests";
            }

            @Override
            public void sendMessageBefore(SendMessageContext context) {
                requests.incrementAndGet();
            }

            @Override
            public void sendMessageAfter(SendMessageContext context) {
            }
        });
        clients.start(producer);
        producer.batchMaxDelayMs(DELAY_MILLIS);
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private Message numbered(int i) {
        Message m = message(topic, "body " + i);
        m.setKeys("key-" + i);
        m.setTags("Tag" + i % TAGS);
        m.putUserProperty("index", String.valueOf(i));
        return m;
    }

    @Test
    void asyncSendsAreGathered() throws Exception {
        CountDownLatch acknowledged = new CountDownLatch(MESSAGES);
        AtomicReference<Object> failure = new AtomicReference<>();
        for (int i = 0; i < MESSAGES; i++) {
            Message m = numbered(i);
            producer.send(m, new SendCallback() {
                @Override
                public void onSuccess(SendResult result) {
                    results.put(m.getKeys(), result);
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
        assertAllThere();
    }

    @Test
    void syncSendsOfManyThreadsAreGathered() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(THREADS);
        try {
            List<Callable<SendResult>> sends = new ArrayList<>();
            for (int i = 0; i < MESSAGES; i++) {
                Message m = numbered(i);
                sends.add(() -> results.put(m.getKeys(), send(producer, m)));
            }
            for (Future<SendResult> sent : threads.invokeAll(sends)) {
                sent.get();
            }
        } finally {
            threads.shutdown();
        }
        assertAllThere();
    }

    /** Every message is found once, as it was sent, where its result says. */
    private void assertAllThere() throws Exception {
        assertEquals(MESSAGES, results.size());
        assertTrue(requests.get() <= MESSAGES / 2, MESSAGES + " messages in " + requests + " requests");
        List<String> bodies = new ArrayList<>();
        for (int i = 0; i < MESSAGES; i++) {
            bodies.add("body " + i);
        }
        Inbox inbox = clients.read(topic, MESSAGES);
        inbox.awaitExactly(bodies);
        for (MessageExt m : inbox.all()) {
            String index = m.getUserProperty("index");
            assertEquals("body " + index, Inbox.body(m));
            assertEquals("key-" + index, m.getKeys());
            assertEquals("Tag" + Integer.parseInt(index) % TAGS, m.getTags());
            SendResult result = results.get(m.getKeys());
            assertEquals(SendStatus.SEND_OK, result.getSendStatus());
            assertEquals(m.getQueueId(), result.getMessageQueue().getQueueId());
            assertEquals(m.getQueueOffset(), result.getQueueOffset(), m.getKeys());
            assertEquals(m.getMsgId(), result.getMsgId(), m.getKeys());
        }
        String key = "key-" + MESSAGES / 2;
        Await.until("the message by its key", () -> !clients.cluster.admin()
            .queryMessage(topic, key, 2, 0, Long.MAX_VALUE).getMessageList().isEmpty());
        List<MessageExt> found = clients.cluster.admin().queryMessage(topic, key, 2, 0, Long.MAX_VALUE).getMessageList();
        assertEquals(1, found.size());
        assertEquals("body " + MESSAGES / 2, Inbox.body(found.get(0)));
    }
}
