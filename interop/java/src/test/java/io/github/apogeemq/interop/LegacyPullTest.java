package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class LegacyPullTest {
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private static List<String> bodies(PullResult result) {
        return result.getMsgFoundList().stream().map(Inbox::body).collect(Collectors.toList());
    }

    @Test
    void pullReadsAnyOffsetAndReportsBounds() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        List<String> all = sendBodies(producer, topic, "m", 50);
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(Names.unique("group")));
        for (int from : new int[] {0, 1, 30, 49}) {
            PullResult found = pull.pull(queue, "*", from, 10);
            int end = Math.min(from + 10, 50);
            assertEquals(PullStatus.FOUND, found.getPullStatus());
            assertEquals(all.subList(from, end), bodies(found));
            assertEquals(end, found.getNextBeginOffset());
            assertEquals(0, found.getMinOffset());
            assertEquals(50, found.getMaxOffset());
        }
        assertEquals(PullStatus.NO_NEW_MSG, pull.pull(queue, "*", 50, 10).getPullStatus());
        PullResult beyond = pull.pull(queue, "*", 1_000, 10);
        assertEquals(PullStatus.OFFSET_ILLEGAL, beyond.getPullStatus());
        assertEquals(50, beyond.getNextBeginOffset());
        PullResult filtered = pull.pull(queue, "NoSuchTag", 0, 10);
        assertEquals(PullStatus.NO_MATCHED_MSG, filtered.getPullStatus());
        assertEquals(50, filtered.getNextBeginOffset());
    }

    @Test
    void blockingPullIsHeldUntilAMessageComes() throws Exception {
        String topic = clients.topic(1);
        String other = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 3);
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(Names.unique("group")));
        CompletableFuture<PullResult> held = new CompletableFuture<>();
        Thread puller = new Thread(() -> {
            try {
                held.complete(pull.pullBlockIfNotFound(queue, "*", 3, 10));
            } catch (Exception e) {
                held.completeExceptionally(e);
            }
        });
        puller.start();
        sendBodies(producer, other, "elsewhere", 200);
        assertFalse(held.isDone(), "messages of another topic end the pull");
        sendBodies(producer, topic, "awaited", 1);
        PullResult result = held.get(2, TimeUnit.SECONDS);
        assertEquals(PullStatus.FOUND, result.getPullStatus());
        assertEquals(List.of("awaited-0"), bodies(result));
    }

    /** The broker looks for expired holds every 5 s. */
    @Test
    void blockingPullEndsWithNothingWhenItsTimeIsOver() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 3);
        DefaultMQPullConsumer pull = clients.newLegacyPull(Names.unique("group"));
        pull.setBrokerSuspendMaxTimeMillis(1_000);
        clients.start(pull);
        long began = System.nanoTime();
        PullResult result = pull.pullBlockIfNotFound(Clients.onlyQueue(producer, topic), "*", 3, 10);
        long millis = (System.nanoTime() - began) / 1_000_000;
        assertEquals(PullStatus.NO_NEW_MSG, result.getPullStatus());
        assertEquals(3, result.getNextBeginOffset());
        assertTrue(millis >= 1_000 && millis < 12_000, "held " + millis + " ms");
    }

    @Test
    void groupsOffsetIsKeptByTheBroker() throws Exception {
        String topic = clients.topic(1);
        String group = Names.unique("group");
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 10);
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(group));
        // The first pull makes the group; a commit for a group that the broker does not know is refused.
        assertEquals(10, pull.pull(queue, "*", 0, 32).getMsgFoundList().size());
        pull.updateConsumeOffset(queue, 6);
        pull.getOffsetStore().persistAll(Set.of(queue)); // persist(queue) does nothing
        Await.until("the commit", () -> clients.committed(group, topic) == 6);
        assertEquals(6, pull.fetchConsumeOffset(queue, true));
    }
}
