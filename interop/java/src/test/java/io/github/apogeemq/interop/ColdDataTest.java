package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.junit.jupiter.api.Test;

class ColdDataTest {
    private static final int MESSAGES = 300;
    private static final int BODY_BYTES = 100_000;

    /** A third of the 64 MiB is the log's: of 30 MB, about 8 are cold, and a group may read 3 of them in 5 seconds. */
    @Test
    void groupThatReadsColdDataIsSlowedDownAndGetsAll() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", "--memory-max", "64MiB", "--cold-data-flow-control-enable=true",
            "--access-message-in-memory-max-ratio", "0"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(1);
            DefaultMQProducer producer = clients.producer();
            List<String> keys = new ArrayList<>();
            byte[] body = new byte[BODY_BYTES];
            new Random(1).nextBytes(body); // the client compresses others
            for (int i = 0; i < MESSAGES; i++) {
                Clients.send(producer, new Message(topic, "*", "key-" + i, body));
                keys.add("key-" + i);
            }
            String cold = clients.group();
            Inbox slow = new Inbox();
            long began = System.nanoTime();
            clients.push(cold, topic, "*", slow);
            Await.until("the group to be known as a reader of cold data", () -> info(cluster).contains("\"" + cold + "\":{\"coldAcc\":"));
            Inbox fast = new Inbox();
            String hot = clients.group();
            DefaultMQPushConsumer push = clients.newPush(hot);
            push.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET);
            push.subscribe(topic, "*");
            push.registerMessageListener(fast.concurrently());
            clients.start(push);
            Await.until("a message for the group that keeps up", () -> {
                Clients.send(producer, Clients.message(topic, "new"));
                return !fast.all().isEmpty();
            });
            assertTrue(slow.all().size() < MESSAGES, "the group that reads cold data was not slowed down");
            Await.until("all of them", () -> slow.all().size() >= MESSAGES);
            long seconds = TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - began);
            assertTrue(seconds >= 5, "it took " + seconds + " s");
            assertEquals(keys, slow.all().stream().map(MessageExt::getKeys).filter(key -> key != null).sorted(
                (a, b) -> Integer.compare(number(a), number(b))).collect(Collectors.toList()));
            assertFalse(info(cluster).contains("\"" + hot + "\""));
        }
    }

    private static int number(String key) {
        return Integer.parseInt(key.substring("key-".length()));
    }

    private static String info(Cluster cluster) throws Exception {
        return cluster.admin().getColdDataFlowCtrInfo(cluster.broker);
    }
}
