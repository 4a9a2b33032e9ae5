package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class LitePullTest {
    private static final long POLL_MILLIS = 1_000;
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    /** Polls until n messages have come. */
    private static List<MessageExt> poll(DefaultLitePullConsumer pull, int n) throws Exception {
        Inbox inbox = new Inbox();
        Await.until(n + " polled messages", () -> {
            inbox.add(pull.poll(POLL_MILLIS));
            return inbox.all().size() >= n;
        });
        return inbox.all();
    }

    /**
     * Seeks and polls until messages from there have come. A seek can be lost in the client (5.5.0, no broker is involved):
     * PullTaskImpl.run looks whether it is cancelled before nextPullOffset, which takes the offset of the seek out of
     * assignedMessageQueue without the lock that seek holds, and looks once more after it. A task that seek cancels between
     * the two has taken the offset and ends; the task that seek starts finds none and goes on at the old one. So it is repeated.
     */
    private static List<MessageExt> seekAndPoll(DefaultLitePullConsumer pull, MessageQueue queue, long offset, int n)
        throws Exception {
        Inbox inbox = new Inbox();
        Await.until("messages from offset " + offset, () -> {
            pull.seek(queue, offset);
            inbox.add(pull.poll(POLL_MILLIS));
            return !inbox.all().isEmpty();
        });
        while (inbox.all().size() < n) {
            inbox.add(poll(pull, 1));
        }
        return inbox.all();
    }

    private DefaultLitePullConsumer assigned(String group, MessageQueue queue) throws Exception {
        DefaultLitePullConsumer pull = clients.newLitePull(group);
        pull.setAutoCommit(false);
        clients.start(pull);
        pull.assign(List.of(queue));
        return pull;
    }

    @Test
    void subscriptionIsPolledToTheEnd() throws Exception {
        String topic = clients.topic(4);
        List<String> bodies = sendBodies(clients.producer(), topic, "m", 40);
        DefaultLitePullConsumer pull = clients.newLitePull(Names.unique("group"));
        pull.subscribe(topic, "*");
        clients.start(pull);
        Inbox inbox = new Inbox();
        inbox.add(poll(pull, 40));
        inbox.awaitExactly(bodies);
    }

    @Test
    void assignedQueueIsReadFromAnyOffset() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 20);
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        DefaultLitePullConsumer pull = assigned(Names.unique("group"), queue);
        List<MessageExt> tail = seekAndPoll(pull, queue, 15, 5);
        assertEquals(5, tail.size());
        assertEquals("m-15", Inbox.body(tail.get(0)));
        List<MessageExt> all = seekAndPoll(pull, queue, 0, 20);
        assertEquals(20, all.size());
        assertEquals("m-0", Inbox.body(all.get(0)));
        pull.seekToEnd(queue); // where it stands already
        sendBodies(producer, topic, "new", 1);
        assertEquals("new-0", Inbox.body(poll(pull, 1).get(0)));
    }

    @Test
    void committedOffsetIsWhereTheGroupResumes() throws Exception {
        String topic = clients.topic(1);
        String group = Names.unique("group");
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 10);
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        DefaultLitePullConsumer pull = assigned(group, queue);
        seekAndPoll(pull, queue, 0, 10);
        pull.commit(Map.of(queue, 7L), true);
        Await.until("the commit", () -> clients.committed(group, topic) == 7);
        assertEquals(7, pull.committed(queue));
        pull.shutdown();
        DefaultLitePullConsumer resumed = assigned(group, queue);
        assertEquals(7, resumed.committed(queue));
        List<MessageExt> rest = poll(resumed, 3);
        assertEquals(3, rest.size());
        assertEquals("m-7", Inbox.body(rest.get(0)));
    }

    @Test
    void offsetIsFoundByTime() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 10);
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        DefaultLitePullConsumer pull = assigned(Names.unique("group"), queue);
        List<MessageExt> all = seekAndPoll(pull, queue, 0, 10);
        long time = all.get(5).getStoreTimestamp();
        long first = all.stream().filter(m -> m.getStoreTimestamp() >= time).findFirst().orElseThrow().getQueueOffset();
        assertEquals(first, pull.offsetForTimestamp(queue, time));
        assertEquals(0, pull.offsetForTimestamp(queue, all.get(0).getStoreTimestamp() - 60_000));
    }
}
