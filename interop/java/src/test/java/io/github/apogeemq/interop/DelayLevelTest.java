package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

@Execution(ExecutionMode.CONCURRENT)
class DelayLevelTest {
    private static final String SCHEDULE = "SCHEDULE_TOPIC_XXXX";
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private static SendResult sendDelayed(DefaultMQProducer producer, String topic, int level) throws Exception {
        Message m = message(topic, "level " + level);
        m.setDelayTimeLevel(level);
        return send(producer, m);
    }

    @Test
    void tableIsRocketMQs() throws Exception {
        assertEquals("1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h",
            clients.cluster.admin().getBrokerConfig(clients.cluster.broker).getProperty("messageDelayLevel"));
    }

    /** Levels above the last one are the last one. */
    @Test
    void messageOfEachLevelWaitsInTheQueueOfThatLevel() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        for (int level : new int[] {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 100}) {
            SendResult result = sendDelayed(producer, topic, level);
            MessageExt waiting = producer.viewMessage(SCHEDULE, result.getOffsetMsgId());
            int want = Math.min(level, 18);
            assertEquals(SCHEDULE, waiting.getTopic());
            assertEquals(want - 1, waiting.getQueueId());
            assertEquals(topic, waiting.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
            assertEquals("0", waiting.getProperty(MessageConst.PROPERTY_REAL_QUEUE_ID));
            assertEquals(want, waiting.getDelayTimeLevel());
        }
    }

    @Test
    void messageComesWhenItsTimeHasPassedAndIsAsItWasSent() throws Exception {
        String topic = clients.topic(1);
        Inbox inbox = new Inbox();
        clients.push(Names.unique("group"), topic, "TagA", inbox);
        DefaultMQProducer producer = clients.producer();
        Message m = message(topic, "later");
        m.setTags("TagA");
        m.setKeys("key");
        m.putUserProperty("user", "property");
        m.setDelayTimeLevel(1);
        SendResult sent = send(producer, m);
        MessageExt got = inbox.await(1).get(0);
        long millis = got.getStoreTimestamp() - producer.viewMessage(SCHEDULE, sent.getOffsetMsgId()).getStoreTimestamp();
        assertTrue(millis >= 1_000 && millis < 5_000, "delivered after " + millis + " ms");
        assertEquals(sent.getMsgId(), got.getMsgId());
        assertEquals(List.of("TagA", "key", "property"), List.of(got.getTags(), got.getKeys(), got.getUserProperty("user")));
        assertEquals(1, got.getDelayTimeLevel());
        assertEquals(topic, got.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
        assertEquals(0, got.getQueueId());
    }
}
