package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.sendBodies;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.UtilAll;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Where a new group begins in a topic that is old: no message counts as near the end of the log here. PushTest has the young one. */
@Execution(ExecutionMode.CONCURRENT)
class FirstOffsetTest {
    private static Cluster cluster;
    private Clients clients;

    @BeforeAll
    static void start() throws Exception {
        cluster = Cluster.own("127.0.0.1", "--access-message-in-memory-max-ratio", "0");
    }

    @AfterAll
    static void stop() throws Exception {
        if (cluster != null) {
            cluster.close();
        }
    }

    @BeforeEach
    void connect() {
        clients = new Clients(cluster);
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private DefaultMQPushConsumer newGroup(String topic, ConsumeFromWhere where, Inbox inbox) throws Exception {
        DefaultMQPushConsumer push = clients.newPush(clients.group());
        push.setConsumeFromWhere(where);
        push.subscribe(topic, "*");
        push.registerMessageListener(inbox.concurrently());
        return push;
    }

    /** The offsets that a consumer begins at, once it has asked for all of them. */
    private static void awaitAssigned(DefaultMQPushConsumer push, String topic, int queues) throws Exception {
        Await.until("the queues of " + topic, () -> push.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable()
            .keySet().stream().filter(queue -> queue.getTopic().equals(topic)).count() == queues);
    }

    @Test
    void lastOffsetPassesOverWhatIsThere() throws Exception {
        String topic = clients.topic(2);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "old", 10);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.start(newGroup(topic, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, inbox));
        awaitAssigned(push, topic, 2);
        inbox.awaitExactly(sendBodies(producer, topic, "new", 10));
    }

    @Test
    void firstOffsetReadsAll() throws Exception {
        String topic = clients.topic(2);
        DefaultMQProducer producer = clients.producer();
        List<String> old = sendBodies(producer, topic, "old", 10);
        Inbox inbox = new Inbox();
        clients.start(newGroup(topic, ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET, inbox));
        inbox.awaitExactly(old);
    }

    /** The client knows whole seconds. */
    @Test
    void timestampReadsWhatCameFromThenOn() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "old", 5);
        long second = System.currentTimeMillis() / 1_000 + 1;
        Await.until("the next second", () -> System.currentTimeMillis() > second * 1_000);
        List<String> young = sendBodies(producer, topic, "young", 5);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = newGroup(topic, ConsumeFromWhere.CONSUME_FROM_TIMESTAMP, inbox);
        push.setConsumeTimestamp(UtilAll.timeMillisToHumanString3(second * 1_000));
        clients.start(push);
        inbox.awaitExactly(young);
    }

    /** Where the group begins counts only while it has no offset. */
    @Test
    void groupWithAnOffsetGoesOnThere() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 10);
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = newGroup(topic, ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET, inbox);
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        clients.cluster.admin().updateConsumeOffset(clients.cluster.broker, push.getConsumerGroup(), queue, 7);
        clients.start(push);
        inbox.awaitExactly(List.of("m-7", "m-8", "m-9"));
    }
}
