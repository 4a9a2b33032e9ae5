package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class QueryTest {
    private static final long HOUR_MILLIS = 3_600_000;
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private static Set<String> query(DefaultMQProducer producer, String topic, String key) throws Exception {
        Set<String> found = new TreeSet<>();
        long now = System.currentTimeMillis();
        try {
            for (MessageExt m : producer.queryMessage(topic, key, 32, now - HOUR_MILLIS, now + HOUR_MILLIS).getMessageList()) {
                found.add(Inbox.body(m));
            }
        } catch (MQClientException e) {
            return Set.of(); // no message
        }
        return found;
    }

    @Test
    void messagesAreFoundByKey() throws Exception {
        String topic = clients.topic(4);
        DefaultMQProducer producer = clients.producer();
        for (int i = 0; i < 9; i++) {
            Message m = message(topic, "message " + i);
            m.setKeys(List.of("all", "third-" + i % 3));
            send(producer, m);
        }
        Await.until("nine messages under one key", () -> query(producer, topic, "all").size() == 9);
        assertEquals(Set.of("message 1", "message 4", "message 7"), query(producer, topic, "third-1"));
        assertEquals(Set.of(), query(producer, topic, "none"));
    }

    @Test
    void messageIsFoundByEitherId() throws Exception {
        String topic = clients.topic(4);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "other", 5);
        SendResult result = send(producer, message(topic, "wanted"));
        assertEquals("wanted", Inbox.body(producer.viewMessage(topic, result.getOffsetMsgId())));
        Await.until("the message under its unique id", () -> {
            try {
                MessageExt found = producer.viewMessage(topic, result.getMsgId());
                return found != null && Inbox.body(found).equals("wanted");
            } catch (MQClientException e) {
                return false;
            }
        });
    }

    @Test
    void offsetsAreFoundByBoundAndByTime() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        assertEquals(0, producer.minOffset(queue));
        assertEquals(0, producer.maxOffset(queue));
        sendBodies(producer, topic, "m", 20);
        List<MessageExt> all = clients.read(topic, 20).all();
        assertEquals(20, all.size());
        assertEquals(0, producer.minOffset(queue));
        assertEquals(20, producer.maxOffset(queue));
        for (MessageExt m : all) {
            long time = m.getStoreTimestamp();
            long first = all.stream().filter(other -> other.getStoreTimestamp() >= time)
                .mapToLong(MessageExt::getQueueOffset).min().orElseThrow();
            assertEquals(first, producer.searchOffset(queue, time), "first offset stored at " + time + " or later");
        }
        long start = all.stream().mapToLong(MessageExt::getStoreTimestamp).min().orElseThrow();
        assertEquals(start, producer.earliestMsgStoreTime(queue));
        assertEquals(0, producer.searchOffset(queue, start - HOUR_MILLIS));
        assertEquals(20, producer.searchOffset(queue, System.currentTimeMillis() + HOUR_MILLIS));
    }

    @Test
    void unknownIdIsAnError() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        SendResult result = send(producer, message(topic, "the only one"));
        String beyond = result.getOffsetMsgId().substring(0, 16) + "00000FFFFFFFFFFF";
        Exception e = assertThrows(Exception.class, () -> producer.viewMessage(topic, beyond));
        assertTrue(e instanceof MQClientException || e.getMessage() != null, e.toString());
    }
}
