package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;

/** Topics with queue.type=BatchCQ: a batch is one record, which the consumer takes apart. */
class BatchQueueTest {
    private static final int BATCH = 5;

    private static String batchTopic(Clients clients) throws Exception {
        String topic = Names.unique("batches");
        TopicConfig config = new TopicConfig(topic, 1, 1, 6);
        config.setAttributes(Map.of("+queue.type", "BatchCQ"));
        clients.cluster.admin().createAndUpdateTopicConfig(clients.cluster.broker, config);
        clients.awaitRoute(topic, 1);
        return topic;
    }

    /** Sends batches, and returns the bodies of their messages. */
    private static List<String> sendBatches(DefaultMQProducer producer, String topic, int first, int batches) throws Exception {
        List<String> bodies = new ArrayList<>();
        for (int i = first; i < first + batches; i++) {
            List<Message> batch = new ArrayList<>();
            for (int k = 0; k < BATCH; k++) {
                bodies.add("m-" + (i * BATCH + k));
                batch.add(message(topic, bodies.get(bodies.size() - 1)));
            }
            SendResult result = producer.send(batch);
            assertEquals(i * BATCH, result.getQueueOffset());
            assertEquals(32, result.getOffsetMsgId().length(), "one record: " + result.getOffsetMsgId());
            assertEquals(-1, result.getMsgId().indexOf(','), "the id of the batch: " + result.getMsgId());
        }
        return bodies;
    }

    private static List<String> bodies(List<MessageExt> messages) {
        return messages.stream().map(Inbox::body).collect(Collectors.toList());
    }

    /** Pulls everything, offset by offset. */
    private static void checkPulls(Clients clients, MessageQueue queue, List<String> all) throws Exception {
        DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(Names.unique("group")));
        for (int from = 0; from < all.size(); from++) {
            PullResult found = pull.pull(queue, "*", from, BATCH);
            int start = from / BATCH * BATCH;
            assertEquals(PullStatus.FOUND, found.getPullStatus());
            assertEquals(all.subList(start, start + BATCH), bodies(found.getMsgFoundList()), "from offset " + from);
            assertEquals(start, found.getMsgFoundList().get(0).getQueueOffset());
            assertEquals(start + BATCH, found.getNextBeginOffset());
            assertEquals(all.size(), found.getMaxOffset());
        }
        assertEquals(PullStatus.NO_NEW_MSG, pull.pull(queue, "*", all.size(), BATCH).getPullStatus());
        assertEquals(all, bodies(pull.pull(queue, "*", 0, 32).getMsgFoundList()));
        assertEquals(0, pull.searchOffset(queue, 0));
        assertEquals(all.size() - BATCH, pull.searchOffset(queue, Long.MAX_VALUE / 2), "the last batch");
    }

    @Test
    void batchesAreTakenApartByEveryConsumer() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1"); Clients clients = new Clients(cluster)) {
            String topic = batchTopic(clients);
            DefaultMQProducer producer = clients.producer();
            List<String> all = sendBatches(producer, topic, 0, 4);
            MessageQueue queue = Clients.onlyQueue(producer, topic);
            checkPulls(clients, queue, all);

            Inbox pushed = new Inbox();
            clients.push(Names.unique("group"), topic, "*", pushed);
            DefaultLitePullConsumer lite = clients.newLitePull(Names.unique("group"));
            lite.subscribe(topic, "*");
            clients.start(lite);
            Inbox polled = new Inbox();
            Await.until("polled messages", () -> {
                polled.add(lite.poll(1_000));
                return polled.all().size() >= all.size();
            });
            pushed.awaitExactly(all);
            polled.awaitExactly(all);

            cluster.process.kill();
            cluster.process.start();
            all.addAll(sendBatches(clients.producer(), topic, 4, 1));
            checkPulls(clients, queue, all);
        }
    }
}
