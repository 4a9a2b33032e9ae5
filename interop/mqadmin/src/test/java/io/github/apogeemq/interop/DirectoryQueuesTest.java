package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Light queues and queues of batches of a store directory are the same for the original, Apogee and the original again. */
@Execution(ExecutionMode.CONCURRENT)
class DirectoryQueuesTest {
    private static final String LISTEN = "127.0.0.1";
    private static final String TOPIC = "DirectoryTopic";
    private static final String BATCHES = "DirectoryBatches";
    private static final String A = "%LMQ%a";
    private static final String B = "%LMQ%b";
    private static final String GROUP = "%LMQ%group";
    private static final String[] LIGHT = {"--enable-lmq", "true", "--enable-multi-dispatch", "true"};
    private static final int BATCH = 3;

    /** What the queues hold, by the order in which it was sent. */
    private final List<String> a = new ArrayList<>();
    private final List<String> b = new ArrayList<>();
    private final List<String> batches = new ArrayList<>();
    /** How far the group has come in A. */
    private long committed;

    @Test
    void lightQueuesAndBatchesAreTheSameForWhoeverHasTheDirectory(@TempDir Path dir) throws Exception {
        ApogeeProcess original = MqadminNode.originalIn(dir, LIGHT);
        original.start();
        try {
            DefaultMQAdminExt admin = DirectoryTest.admin(original);
            TopicConfig config = new TopicConfig(BATCHES, 1, 1, 6);
            config.setAttributes(Map.of("+queue.type", "BatchCQ"));
            admin.createAndUpdateTopicConfig(original.broker(), config);
            Await.until("a route", () -> !admin.fetchAllTopicList().getTopicList().isEmpty()
                && admin.fetchAllTopicList().getTopicList().contains(BATCHES));
            admin.shutdown();
            sendTo(original);
            check(original);
        } finally {
            original.stop();
        }

        ApogeeProcess apogee = new ApogeeProcess(dir, LISTEN, LIGHT);
        apogee.start();
        try {
            check(apogee);
            sendTo(apogee);
            check(apogee);
        } finally {
            apogee.kill();
        }
        DirectoryTest.leave(dir);

        original = MqadminNode.originalIn(dir, LIGHT);
        original.start();
        try {
            check(original);
            sendTo(original);
            check(original);
        } finally {
            original.kill();
        }
    }

    /** Sends the next messages and batches. */
    private void sendTo(ApogeeProcess owner) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("DirectoryProducer");
        DirectoryTest.start(producer, owner);
        for (int i = 0; i < 6; i++) {
            String body = "m" + a.size();
            Message m = message(TOPIC, body);
            m.putUserProperty(MessageConst.PROPERTY_INNER_MULTI_DISPATCH, i % 2 == 0 ? A : B + "," + A);
            producer.send(m);
            a.add(body);
            if (i % 2 == 1) {
                b.add(body);
            }
        }
        for (int i = 0; i < 2; i++) {
            List<Message> batch = new ArrayList<>();
            for (int k = 0; k < BATCH; k++) {
                batches.add("b" + batches.size());
                batch.add(message(BATCHES, batches.get(batches.size() - 1)));
            }
            assertEquals(batches.size() - BATCH, producer.send(batch).getQueueOffset());
        }
        producer.shutdown();
    }

    private static Message message(String topic, String body) {
        return new Message(topic, body.getBytes(StandardCharsets.UTF_8));
    }

    /** Reads all queues from their beginning, and commits how far. */
    private void check(ApogeeProcess owner) throws Exception {
        DefaultMQPullConsumer pull = new DefaultMQPullConsumer(GROUP);
        pull.setNamesrvAddr(owner.nameServer());
        pull.setInstanceName("pull" + System.nanoTime());
        pull.start();
        try {
            Await.until("the route is known", () -> !pull.fetchSubscribeMessageQueues(TOPIC).isEmpty());
            pull.maxOffset(new MessageQueue(TOPIC, "broker-a", 0)); // the client learns where the broker is, which light topics do not tell
            assertEquals(a, light(pull, A));
            assertEquals(b, light(pull, B));
            MessageQueue queue = new MessageQueue(BATCHES, "broker-a", 0);
            assertEquals(batches, read(pull, queue));
            for (int from = 0; from < batches.size(); from++) {
                PullResult found = pull.pull(queue, "*", from, 1);
                int start = from / BATCH * BATCH;
                assertEquals("b" + start, body(found.getMsgFoundList().get(0)), "from offset " + from);
                assertEquals(start, found.getMsgFoundList().get(0).getQueueOffset());
                assertEquals(start + BATCH, found.getNextBeginOffset());
            }
            assertEquals(0, pull.searchOffset(queue, 0));
            assertEquals(batches.size() - BATCH, pull.searchOffset(queue, System.currentTimeMillis() + 60_000));
            MessageQueue lightA = new MessageQueue(A, "broker-a", 0);
            if (committed > 0) {
                assertEquals(committed, pull.fetchConsumeOffset(lightA, true));
            }
            committed = a.size();
            pull.getDefaultMQPullConsumerImpl().getOffsetStore().updateConsumeOffsetToBroker(lightA, committed, false);
        } finally {
            pull.shutdown();
        }
    }

    /** Reads a light queue, whose messages say which offset they have there. */
    private static List<String> light(DefaultMQPullConsumer pull, String name) throws Exception {
        MessageQueue queue = new MessageQueue(name, "broker-a", 0);
        List<String> bodies = read(pull, queue);
        assertEquals(bodies.size(), pull.maxOffset(queue));
        PullResult found = pull.pull(queue, "*", 0, 32);
        for (int i = 0; i < found.getMsgFoundList().size(); i++) {
            MessageExt m = found.getMsgFoundList().get(i);
            int at = Arrays.asList(m.getProperty(MessageConst.PROPERTY_INNER_MULTI_DISPATCH).split(",")).indexOf(name);
            assertEquals(i, Long.parseLong(m.getProperty(MessageConst.PROPERTY_INNER_MULTI_QUEUE_OFFSET).split(",")[at]));
        }
        return bodies;
    }

    private static List<String> read(DefaultMQPullConsumer pull, MessageQueue queue) throws Exception {
        List<String> bodies = new ArrayList<>();
        for (long next = 0; ; ) {
            PullResult found = pull.pull(queue, "*", next, 32);
            if (found.getPullStatus() != PullStatus.FOUND) {
                return bodies;
            }
            found.getMsgFoundList().forEach(m -> bodies.add(body(m)));
            next = found.getNextBeginOffset();
        }
    }

    private static String body(MessageExt m) {
        return new String(m.getBody(), StandardCharsets.UTF_8);
    }
}
