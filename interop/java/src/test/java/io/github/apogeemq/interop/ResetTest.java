package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.body.ResetOffsetBody;
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
        assertEquals(sorted(after), sorted(inbox.bodies().subList(20, 30)));
    }

    /** A client of before 5.0 does not learn of a reset from a pull: this one says that it is one. */
    @Test
    void memberOfAnOlderVersionIsPushedTheOffsets() throws Exception {
        Queue<RemotingCommand> pushed = new ConcurrentLinkedQueue<>();
        DefaultMQPushConsumer push = clients.newPush(group, new RPCHook() {
            @Override
            public void doBeforeRequest(String address, RemotingCommand request) {
                request.setVersion(MQVersion.Version.V4_9_7.ordinal());
                if (request.getCode() == RequestCode.RESET_CONSUMER_CLIENT_OFFSET) {
                    pushed.add(request);
                }
            }

            @Override
            public void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
            }
        });
        Inbox inbox = new Inbox();
        push.subscribe(topic, "*");
        push.registerMessageListener(inbox.concurrently());
        clients.start(push);
        inbox.await(20);
        clients.awaitCommitted(push, topic, 20);
        Map<MessageQueue, Long> offsets = admin.resetOffsetByTimestamp(topic, group, between, true);
        Await.until("the push", () -> !pushed.isEmpty());
        RemotingCommand request = pushed.remove();
        assertEquals(topic, request.getExtFields().get("topic"));
        assertEquals(group, request.getExtFields().get("group"));
        assertEquals(offsets, ResetOffsetBody.decode(request.getBody(), ResetOffsetBody.class).getOffsetTable());
        assertEquals(10, offsets.values().stream().mapToLong(offset -> offset).sum(), "what was sent before");
        inbox.await(30);
        assertEquals(sorted(after), sorted(inbox.bodies().subList(20, 30)));
    }

    private static List<String> sorted(List<String> bodies) {
        return bodies.stream().sorted().collect(Collectors.toList());
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
