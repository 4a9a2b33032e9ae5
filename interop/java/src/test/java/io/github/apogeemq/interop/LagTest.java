package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.alibaba.fastjson2.JSON;
import com.alibaba.fastjson2.JSONObject;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.apache.rocketmq.remoting.protocol.admin.OffsetWrapper;
import org.apache.rocketmq.remoting.protocol.body.QueueTimeSpan;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Groups that are slow, stuck, or hold up a queue: behind in messages and in time, for mqadmin, the metrics and `apogee group list`. */
@Execution(ExecutionMode.CONCURRENT)
class LagTest {
    private static final int QUEUES = 2;
    private static final int EACH = 20; // messages in each queue
    private static final int ALL = QUEUES * EACH;
    // A group that is a minute behind is in trouble; the rest is for a busy machine.
    private static final Duration TROUBLE_MAX = Duration.ofMinutes(3);

    private final CountDownLatch released = new CountDownLatch(1); // what is stuck goes on
    private final Semaphore permits = new Semaphore(0); // the slow group consumes a message for each
    private final Map<Integer, Map<Long, Long>> stored = new HashMap<>(); // store times by queue and offset
    private final ScheduledExecutorService pace = Executors.newSingleThreadScheduledExecutor();
    private Clients clients;
    private String topic;

    @Test
    void groupsThatAreSlowOrStuckAreBehindInMessagesAndInTime() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1"); Clients ours = new Clients(cluster)) {
            clients = ours;
            try {
                judge();
            } finally {
                pace.shutdownNow();
                goOn();
            }
        }
    }

    private void judge() throws Exception {
        topic = clients.topic(QUEUES);
        DefaultMQProducer producer = clients.producer();
        for (MessageQueue queue : producer.fetchPublishMessageQueues(topic)) {
            for (int i = 0; i < EACH; i++) {
                producer.send(message(topic, "m" + i), queue);
            }
        }
        for (MessageExt m : clients.read(topic, ALL).all()) {
            stored.computeIfAbsent(m.getQueueId(), q -> new HashMap<>()).put(m.getQueueOffset(), m.getStoreTimestamp());
        }
        DefaultMQPushConsumer healthy = start(false, (batch, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        DefaultMQPushConsumer slow = start(false, (batch, context) -> {
            permits.acquireUninterruptibly();
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        DefaultMQPushConsumer stuck = start(false, this::hang);
        DefaultMQPushConsumer popping = start(true, this::hang);
        DefaultMQPushConsumer suspended = startSuspended();

        permits.release(3);
        clients.awaitCommitted(healthy, topic, ALL);
        clients.awaitCommitted(slow, topic, 3);
        clients.awaitCommitted(suspended, topic, EACH);
        for (DefaultMQPushConsumer push : List.of(slow, stuck, popping, suspended)) {
            Await.until("all messages to be given to " + push.getConsumerGroup(),
                () -> offsets(push).values().stream().mapToLong(OffsetWrapper::getPullOffset).sum() == ALL);
        }
        stuck.getDefaultMQPushConsumerImpl().persistConsumerOffset(); // until its first commit it counts as having consumed what it was given
        Await.until("the first commit", () -> list().get(stuck.getConsumerGroup()).getLongValue("lag") == ALL);
        wantLag(healthy, 0);
        wantLag(slow, ALL - 3);
        wantLag(stuck, ALL);
        wantLag(popping, ALL);
        wantLag(suspended, EACH);
        assertEquals(EACH, offsets(suspended).get(new MessageQueue(topic, "broker-a", 1)).getConsumerOffset(), "only the suspended queue waits");

        pace.scheduleAtFixedRate(permits::release, 0, 3, TimeUnit.SECONDS);
        Await.until("a person to see them", TROUBLE_MAX, () -> {
            Map<String, JSONObject> list = list();
            return "slow".equals(note(list, slow)) && "stuck".equals(note(list, stuck)) && "stuck".equals(note(list, popping))
                && "stuck".equals(note(list, suspended)) && note(list, healthy) == null;
        });

        pace.shutdownNow();
        goOn();
        for (DefaultMQPushConsumer push : List.of(slow, stuck, suspended)) {
            clients.awaitCommitted(push, topic, ALL);
        }
        Await.until("the popped messages to be acknowledged", () -> clients.committed(popping.getConsumerGroup(), topic) == ALL);
        for (DefaultMQPushConsumer push : List.of(healthy, slow, stuck, popping, suspended)) {
            wantLag(push, 0);
            assertEquals(null, note(list(), push));
        }
    }

    private void goOn() {
        released.countDown();
        permits.release(ALL);
    }

    private ConsumeConcurrentlyStatus hang(List<MessageExt> batch, Object context) {
        try {
            released.await();
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        } catch (InterruptedException e) {
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        }
    }

    private DefaultMQPushConsumer start(boolean pop, MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer push = clients.newPush(clients.group());
        if (pop) {
            clients.cluster.admin().setMessageRequestMode(clients.cluster.broker, topic, push.getConsumerGroup(), MessageRequestMode.POP, 0, 5_000);
            push.setClientRebalance(false);
            push.setPopInvisibleTime(300_000); // its messages are in flight until the end
        }
        push.setConsumeThreadMin(1);
        push.setConsumeThreadMax(1);
        push.subscribe(topic, "*");
        push.registerMessageListener(listener);
        return clients.start(push);
    }

    private DefaultMQPushConsumer startSuspended() throws Exception {
        DefaultMQPushConsumer push = clients.newPush(clients.group());
        push.subscribe(topic, "*");
        push.registerMessageListener((MessageListenerOrderly) (batch, context) -> {
            boolean waits = batch.get(0).getQueueId() == 0 && released.getCount() > 0;
            return waits ? ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT : ConsumeOrderlyStatus.SUCCESS;
        });
        return clients.start(push);
    }

    private Map<MessageQueue, OffsetWrapper> offsets(DefaultMQPushConsumer push) throws Exception {
        return clients.cluster.admin().examineConsumeStats(push.getConsumerGroup(), topic).getOffsetTable();
    }

    /** Wants all who tell of the group's lag to agree with what was stored: the oldest message that it has not consumed says how late it is. */
    private void wantLag(DefaultMQPushConsumer push, long messages) throws Exception {
        String group = push.getConsumerGroup();
        long began = System.currentTimeMillis();
        Map<MessageQueue, OffsetWrapper> offsets = offsets(push);
        List<QueueTimeSpan> spans = clients.cluster.admin().queryConsumeTimeSpan(topic, group);
        long metric = metric("rocketmq_consumer_lag_messages", group);
        long late = metric("rocketmq_consumer_lag_latency_milliseconds", group);
        JSONObject listed = list().get(group);
        long ended = System.currentTimeMillis();

        long oldest = Long.MAX_VALUE;
        assertEquals(QUEUES, spans.size());
        for (QueueTimeSpan span : spans) {
            OffsetWrapper offset = offsets.get(span.getMessageQueue());
            assertEquals(EACH, offset.getBrokerOffset());
            Long next = stored.get(span.getMessageQueue().getQueueId()).get(offset.getConsumerOffset());
            wantAge(group + " in " + span, span.getDelayTime(), next, began, ended);
            oldest = Math.min(oldest, next == null ? Long.MAX_VALUE : next);
        }
        assertEquals(messages, offsets.values().stream().mapToLong(o -> o.getBrokerOffset() - o.getConsumerOffset()).sum());
        assertEquals(messages, metric);
        assertEquals(messages, listed.getLongValue("lag"));
        Long first = messages == 0 ? null : (Long) oldest;
        wantAge("the metric of " + group, late, first, began, ended);
        wantAge("apogee group list: " + group, Math.round(1_000 * listed.getDoubleValue("behind_seconds")), first, began, ended);
    }

    /** Wants the time since a message was stored, at some moment between two; 0 without one. */
    private static void wantAge(String what, long millis, Long stored, long began, long ended) {
        long least = stored == null ? 0 : began - stored;
        long most = stored == null ? 0 : ended - stored;
        assertTrue(millis >= least && millis <= most, what + ": " + millis + " ms, want " + least + " to " + most);
    }

    private long metric(String name, String group) throws Exception {
        List<Long> found = new ArrayList<>();
        for (String line : clients.cluster.process.metrics()) {
            if (line.startsWith(name + "{") && line.contains("consumer_group=\"" + group + "\"") && line.contains("is_retry=\"false\"")
                && line.contains("topic=\"" + topic + "\"")) {
                found.add((long) Double.parseDouble(line.substring(line.lastIndexOf(' ') + 1)));
            }
        }
        assertEquals(1, found.size(), name + " of " + group);
        return found.get(0);
    }

    private Map<String, JSONObject> list() throws Exception {
        Map<String, JSONObject> groups = new HashMap<>();
        for (Object row : JSON.parseArray(clients.cluster.process.run("group", "list", "--json"))) {
            groups.put(((JSONObject) row).getString("group"), (JSONObject) row);
        }
        return groups;
    }

    private static String note(Map<String, JSONObject> list, DefaultMQPushConsumer push) {
        return list.get(push.getConsumerGroup()).getString("note");
    }
}
