package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Consuming once more, or passing over, by time. */
@Execution(ExecutionMode.CONCURRENT)
class ResetTest {
    private static final long END = -1;
    private Clients clients;
    private DefaultMQAdminExt admin;
    private String topic;
    private String group;
    private DefaultMQProducer producer;
    private List<String> before;
    private List<String> after;
    private long between;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
        admin = clients.cluster.admin();
        topic = clients.topic(2);
        group = clients.group();
        producer = clients.producer();
        before = sendBodies(producer, topic, "before", 10);
        long sent = System.currentTimeMillis();
        Await.until("another millisecond", () -> System.currentTimeMillis() > sent + 1);
        between = System.currentTimeMillis();
        after = sendBodies(producer, topic, "after", 10);
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private DefaultMQPushConsumer consumeAll(Inbox inbox) throws Exception {
        DefaultMQPushConsumer push = clients.push(group, topic, "*", inbox);
        List<String> all = new ArrayList<>(before);
        all.addAll(after);
        inbox.awaitExactly(all);
        clients.awaitCommitted(push, topic, 20);
        return push;
    }

    @Test
    void onlineGroupReadsAgainFromATime() throws Exception {
        Inbox inbox = new Inbox();
        consumeAll(inbox);
        admin.resetOffsetByTimestamp(topic, group, between, true);
        inbox.await(30);
        assertEquals(after.stream().sorted().toArray().length, 10);
        List<String> again = new ArrayList<>(inbox.bodies().subList(20, 30));
        again.sort(null);
        List<String> want = new ArrayList<>(after);
        want.sort(null);
        assertEquals(want, again);
    }

    @Test
    void offlineGroupReadsAgainFromATime() throws Exception {
        consumeAll(new Inbox()).shutdown();
        admin.resetOffsetByTimestamp(topic, group, between, true);
        Inbox inbox = new Inbox();
        clients.push(group, topic, "*", inbox);
        inbox.awaitExactly(after);
    }

    @Test
    void offlineGroupPassesOverWhatIsThere() throws Exception {
        admin.resetOffsetByTimestamp(topic, group, END, true);
        assertEquals(20, clients.committed(group, topic));
        Inbox inbox = new Inbox();
        clients.push(group, topic, "*", inbox);
        inbox.awaitExactly(sendBodies(producer, topic, "new", 4));
    }

    @Test
    void onlineGroupPassesOverWhatIsThere() throws Exception {
        DefaultMQPushConsumer push = clients.newPush(group);
        Inbox inbox = new Inbox();
        push.subscribe(topic, "*");
        push.registerMessageListener(inbox.concurrently());
        push.suspend();
        clients.start(push);
        Await.until("the member to be known", () -> admin.examineConsumerConnectionInfo(group).getConnectionSet().size() == 1);
        admin.resetOffsetByTimestamp(topic, group, END, true);
        push.resume();
        List<String> fresh = sendBodies(producer, topic, "new", 4);
        Await.until("the new messages", () -> inbox.bodies().containsAll(fresh));
        assertEquals(24, clients.cluster.admin().examineTopicStats(topic).getOffsetTable().values().stream()
            .mapToLong(queue -> queue.getMaxOffset()).sum());
    }
}
