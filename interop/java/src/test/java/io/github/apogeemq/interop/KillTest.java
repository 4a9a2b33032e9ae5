package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.PullStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.Test;

class KillTest {
    private static final int SENDERS = 4;
    private static final int SEND_MILLIS_MAX = 500;
    private static final int PAUSE_MILLIS = 20;

    private static String place(int queue, long offset) {
        return queue + ":" + offset;
    }

    private static void load(DefaultMQProducer producer, String topic, int sender, Map<String, String> acked, AtomicBoolean stop) {
        for (int n = 0; !stop.get(); n++) {
            Message m = message(topic, sender + "-" + n);
            try {
                SendResult result = producer.send(m);
                if (result.getSendStatus() == SendStatus.SEND_OK) {
                    acked.put(sender + "-" + n, place(result.getMessageQueue().getQueueId(), result.getQueueOffset()));
                }
            } catch (Exception e) { // not acknowledged; the broker is down
                try {
                    Thread.sleep(PAUSE_MILLIS);
                } catch (InterruptedException interrupted) {
                    return;
                }
            }
        }
    }

    private static void awaitAck(Map<String, String> acked) throws Exception {
        int before = acked.size();
        Await.until("an acknowledgement after the restart", () -> acked.size() > before);
    }

    /** Reads every queue up to a mark at its end; offsets without gaps are checked on the way. */
    private static Map<String, List<String>> readAll(Clients clients, String topic) throws Exception {
        DefaultMQProducer producer = clients.producer();
        DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(Names.unique("group")));
        Map<String, List<String>> found = new HashMap<>();
        for (MessageQueue queue : producer.fetchPublishMessageQueues(topic)) {
            long end = producer.send(message(topic, "mark"), queue).getQueueOffset();
            for (long next = 0; next < end; ) {
                PullResult result = pull.pull(queue, "*", next, 32);
                assertEquals(PullStatus.FOUND, result.getPullStatus(), queue + " at " + next + " of " + end);
                for (MessageExt m : result.getMsgFoundList()) {
                    assertEquals(next, m.getQueueOffset());
                    if (next++ < end) {
                        found.computeIfAbsent(Inbox.body(m), id -> new ArrayList<>())
                            .add(place(queue.getQueueId(), m.getQueueOffset()));
                    }
                }
            }
        }
        return found;
    }

    /** KILL_ROUNDS (5) times. What was acknowledged must be there, once, where the acknowledgement said. */
    @Test
    void nothingAcknowledgedIsLostByKill9() throws Exception {
        int rounds = Integer.parseInt(ApogeeProcess.setting("KILL_ROUNDS", "5"));
        try (Cluster cluster = Cluster.own("127.0.0.1"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(4);
            Map<String, String> acked = new ConcurrentHashMap<>();
            AtomicBoolean stop = new AtomicBoolean();
            List<Thread> senders = new ArrayList<>();
            for (int i = 0; i < SENDERS; i++) {
                int sender = i;
                DefaultMQProducer producer = clients.newProducer();
                producer.setRetryTimesWhenSendFailed(0);
                producer.setSendMsgTimeout(SEND_MILLIS_MAX);
                clients.start(producer);
                Thread thread = new Thread(() -> load(producer, topic, sender, acked, stop), "sender-" + i);
                senders.add(thread);
                thread.start();
            }
            List<Long> restarts = new ArrayList<>();
            for (int round = 0; round < rounds; round++) {
                awaitAck(acked);
                Thread.sleep(ThreadLocalRandom.current().nextInt(300, 900)); // the moment of a kill is chance
                cluster.process.kill();
                long began = System.nanoTime();
                cluster.process.start();
                restarts.add((System.nanoTime() - began) / 1_000_000);
            }
            awaitAck(acked);
            stop.set(true);
            for (Thread sender : senders) {
                sender.join();
            }
            report(acked, readAll(clients, topic), restarts);
        }
    }

    private static void report(Map<String, String> acked, Map<String, List<String>> found, List<Long> restarts) {
        List<String> lost = new ArrayList<>();
        acked.forEach((id, place) -> {
            if (!found.getOrDefault(id, List.of()).contains(place)) {
                lost.add(id + " of " + place + ", found at " + found.get(id));
            }
        });
        int duplicates = found.values().stream().mapToInt(places -> places.size() - 1).sum();
        long unacked = found.keySet().stream().filter(id -> !acked.containsKey(id)).count();
        Collections.sort(restarts);
        System.out.printf("kill9: rounds=%d acked=%d found=%d lost=%d duplicates=%d unacked_present=%d restart_p50=%dms max=%dms%n",
            restarts.size(), acked.size(), acked.size() - lost.size(), lost.size(), duplicates, unacked,
            restarts.get(restarts.size() / 2), restarts.get(restarts.size() - 1));
        assertEquals(List.of(), lost);
        assertEquals(0, duplicates, "no send was repeated");
    }
}
