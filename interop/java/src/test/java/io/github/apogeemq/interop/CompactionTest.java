package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.TopicAttributes;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.attribute.CleanupPolicy;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.junit.jupiter.api.Test;

class CompactionTest {
    private static final int QUEUES = 4;
    private static final int KEYS = 100;
    private static final int MESSAGES = 10_000;

    private static String topic(Clients clients) throws Exception {
        TopicConfig config = new TopicConfig(Names.unique("topic"), QUEUES, QUEUES, 6);
        config.getAttributes().put("+" + TopicAttributes.CLEANUP_POLICY_ATTRIBUTE.getName(), CleanupPolicy.COMPACTION.toString());
        clients.cluster.admin().createAndUpdateTopicConfig(clients.cluster.broker, config);
        clients.awaitRoute(config.getTopicName(), QUEUES);
        return config.getTopicName();
    }

    /** Sends messages from, from + 1, ... of a key each in turn, in their order; a key always goes to the same queue. */
    private static void send(DefaultMQProducer producer, String topic, int from, int n) throws Exception {
        List<MessageQueue> queues = producer.fetchPublishMessageQueues(topic);
        for (int start = from; start < from + n; start += KEYS) {
            for (int queue = 0; queue < QUEUES; queue++) {
                List<Message> batch = new ArrayList<>();
                for (int i = start; i < start + KEYS; i++) {
                    if (i % KEYS % QUEUES == queue) {
                        batch.add(new Message(topic, "*", "key-" + i % KEYS, body(i)));
                    }
                }
                assertEquals(SendStatus.SEND_OK, producer.send(batch, queues.get(queue)).getSendStatus());
            }
        }
    }

    private static byte[] body(int i) {
        return String.format("%0200d", i).getBytes(StandardCharsets.UTF_8);
    }

    /** What a pull of each queue from offset 0 on gives, with the offsets where the broker says to go on. */
    private static List<MessageExt> readAll(DefaultMQPullConsumer pull, String topic) throws Exception {
        List<MessageExt> all = new ArrayList<>();
        for (MessageQueue queue : pull.fetchSubscribeMessageQueues(topic)) {
            for (long next = 0;;) {
                PullResult result = pull.pull(queue, "*", next, 32);
                if (result.getPullStatus() == PullStatus.FOUND) {
                    all.addAll(result.getMsgFoundList());
                } else if (result.getPullStatus() != PullStatus.NO_MATCHED_MSG) {
                    assertEquals(PullStatus.NO_NEW_MSG, result.getPullStatus());
                    break;
                }
                next = result.getNextBeginOffset();
            }
        }
        return all;
    }

    private static Map<String, String> lastOf(List<MessageExt> messages) {
        Map<String, String> last = new TreeMap<>();
        messages.forEach(m -> last.merge(m.getKeys(), Inbox.body(m), (a, b) -> a.compareTo(b) > 0 ? a : b));
        return last;
    }

    private static Map<String, String> expected() {
        Map<String, String> last = new TreeMap<>();
        for (int i = MESSAGES - KEYS; i < MESSAGES; i++) {
            last.put("key-" + i % KEYS, new String(body(i), StandardCharsets.UTF_8));
        }
        return last;
    }

    /** The segments that the messages were in are removed, and kill -9 comes in between. */
    @Test
    void lastMessageOfEachKeyOutlivesRetentionAndKills() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", "--compaction-schedule-internal", "1s", "--mapped-file-size-commit-log", "1048576",
            "--max-message-size", "262144", "--file-reserved-time", "5s"); Clients clients = new Clients(cluster)) {
            String topic = topic(clients);
            DefaultMQProducer producer = clients.newProducer();
            producer.setRetryTimesWhenSendFailed(20);
            clients.start(producer);
            String other = clients.topic(1);
            send(producer, topic, 0, MESSAGES / 2);
            cluster.process.kill();
            cluster.process.start();
            Clients.send(producer, Clients.message(other, "the broker is there again"));
            send(producer, topic, MESSAGES / 2, MESSAGES / 2);
            byte[] body = new byte[20_000];
            new Random(1).nextBytes(body); // the client compresses others
            Path first = cluster.process.data().resolve("store/commitlog").resolve(String.format("%020d", 0));
            Await.until("the first segments to be removed", Duration.ofSeconds(90), () -> {
                Clients.send(producer, new Message(other, body));
                return !Files.exists(first);
            });
            DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(Names.unique("group")));
            AtomicReference<List<MessageExt>> left = new AtomicReference<>();
            Await.until("as many messages as keys to be left", () -> {
                left.set(readAll(pull, topic));
                return left.get().size() == KEYS;
            });
            assertEquals(expected(), lastOf(left.get()));
            cluster.process.kill();
            cluster.process.start();
            Inbox inbox = new Inbox();
            clients.push(Names.unique("group"), topic, "*", inbox);
            inbox.awaitExactly(new ArrayList<>(expected().values()));
            assertEquals(expected(), lastOf(inbox.all()));
        }
    }

    @Test
    void messageWithoutKeyIsRefused() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = topic(clients);
            DefaultMQProducer producer = clients.producer();
            MQBrokerException refused = assertThrows(MQBrokerException.class, () -> producer.send(Clients.message(topic, "no key")));
            assertEquals(ResponseCode.MESSAGE_ILLEGAL, refused.getResponseCode());
            assertEquals("COMPACTION", clients.cluster.admin().examineTopicConfig(clients.cluster.broker, topic).getAttributes()
                .get(TopicAttributes.CLEANUP_POLICY_ATTRIBUTE.getName()));
            assertEquals(List.of(), readAll(clients.start(clients.newLegacyPull(Names.unique("group"))), topic).stream()
                .map(Inbox::body).collect(Collectors.toList()));
        }
    }
}
