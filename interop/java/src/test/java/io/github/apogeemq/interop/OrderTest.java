package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Ordered consumption: one thread per queue, under a lock that the broker gives. */
@Execution(ExecutionMode.CONCURRENT)
class OrderTest {
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private DefaultMQPushConsumer orderly(String group, String topic, MessageListenerOrderly listener) throws Exception {
        DefaultMQPushConsumer push = clients.newPush(group);
        push.subscribe(topic, "*");
        push.registerMessageListener(listener);
        return push;
    }

    private static List<String> bodiesOf(Inbox inbox, int queue) {
        return inbox.all().stream().filter(m -> m.getQueueId() == queue).map(Inbox::body).collect(Collectors.toList());
    }

    @Test
    void failingMessageHoldsUpItsQueueAndNoOther() throws Exception {
        String topic = clients.topic(2);
        DefaultMQProducer producer = clients.producer();
        List<MessageQueue> queues = producer.fetchPublishMessageQueues(topic);
        for (int i = 0; i < 10; i++) {
            for (MessageQueue queue : queues) {
                producer.send(message(topic, queue.getQueueId() + "-" + i), queue);
            }
        }
        Inbox inbox = new Inbox();
        CountDownLatch healed = new CountDownLatch(1);
        AtomicInteger failures = new AtomicInteger();
        List<Integer> counts = new ArrayList<>();
        clients.start(orderly(clients.group(), topic, (batch, context) -> {
            if (Inbox.body(batch.get(0)).equals("0-3") && healed.getCount() > 0) {
                failures.incrementAndGet();
                context.setSuspendCurrentQueueTimeMillis(20);
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            if (Inbox.body(batch.get(0)).equals("0-3")) {
                counts.add(batch.get(0).getReconsumeTimes());
            }
            inbox.add(batch);
            return ConsumeOrderlyStatus.SUCCESS;
        }));
        inbox.await(13); // three of the queue that waits, ten of the other
        Await.until("the message to fail three times", () -> failures.get() >= 3);
        assertEquals(List.of("0-0", "0-1", "0-2"), bodiesOf(inbox, 0));
        healed.countDown();
        inbox.await(20);
        for (int queue = 0; queue < 2; queue++) {
            List<String> want = new ArrayList<>();
            for (int i = 0; i < 10; i++) {
                want.add(queue + "-" + i);
            }
            assertEquals(want, bodiesOf(inbox, queue));
        }
        assertTrue(counts.get(0) >= 3, "reconsume times " + counts);
    }

    /** The client sends it to the retry topic; the broker sees the group's locks and stores it among the dead letters. */
    @Test
    void messageThatFailsTooOftenIsGivenUpAndTheQueueGoesOn() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        List<String> sent = sendBodies(clients.producer(), topic, "m", 5);
        Inbox inbox = new Inbox();
        AtomicInteger failures = new AtomicInteger();
        DefaultMQPushConsumer push = orderly(group, topic, (batch, context) -> {
            if (Inbox.body(batch.get(0)).equals("m-2")) {
                failures.incrementAndGet();
                context.setSuspendCurrentQueueTimeMillis(20);
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            }
            inbox.add(batch);
            return ConsumeOrderlyStatus.SUCCESS;
        });
        push.setMaxReconsumeTimes(2);
        clients.start(push);
        inbox.await(4);
        sent.remove("m-2");
        assertEquals(sent, inbox.bodies());
        assertEquals(3, failures.get(), "the first time and two more");
        MessageExt dead = clients.read(MixAll.getDLQTopic(group), 1).all().get(0);
        assertEquals("m-2", Inbox.body(dead));
        assertEquals(topic, dead.getProperty("RETRY_TOPIC"));
    }

    @Test
    void anotherMemberGetsAQueueOnlyOnceItsHolderHasFinished() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        Set<String> busy = ConcurrentHashMap.newKeySet();
        Set<String> holders = ConcurrentHashMap.newKeySet();
        List<Set<String>> together = new ArrayList<>();
        CountDownLatch started = new CountDownLatch(1);
        CountDownLatch release = new CountDownLatch(1);
        List<DefaultMQPushConsumer> members = new ArrayList<>();
        for (String name : List.of("one", "two")) {
            DefaultMQPushConsumer push = orderly(group, topic, (batch, context) -> {
                busy.add(name);
                holders.add(name);
                if (busy.size() > 1) {
                    together.add(Set.copyOf(busy));
                }
                if (Inbox.body(batch.get(0)).equals("first-0")) {
                    started.countDown();
                    try {
                        release.await();
                    } catch (InterruptedException e) {
                        busy.remove(name);
                        return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                    }
                }
                inbox.add(batch);
                busy.remove(name);
                return ConsumeOrderlyStatus.SUCCESS;
            });
            members.add(push);
        }
        clients.start(members.get(0));
        sendBodies(producer, topic, "first", 1);
        started.await();
        sendBodies(producer, topic, "second", 20);
        clients.start(members.get(1));
        // The holder leaves in the middle of a message: it waits for it before it unlocks the queue.
        Thread leaver = new Thread(members.get(0)::shutdown);
        leaver.start();
        DefaultMQPushConsumer next = members.get(1);
        Await.until("the queue to be the other member's", () -> {
            Clients.refresh(next.getDefaultMQPushConsumerImpl().getmQClientFactory());
            return release.getCount() > 0 || !inbox.all().isEmpty();
        });
        assertEquals(Set.of("one"), holders);
        release.countDown();
        Await.until("all messages", () -> {
            Clients.refresh(next.getDefaultMQPushConsumerImpl().getmQClientFactory());
            return inbox.all().stream().map(Inbox::body).distinct().count() == 21;
        });
        leaver.join();
        assertEquals(List.of(), together, "both members at work on one queue");
        assertEquals(Set.of("one", "two"), holders);
        List<String> seen = inbox.bodies().stream().distinct().collect(Collectors.toList());
        List<String> want = new ArrayList<>(List.of("first-0"));
        for (int i = 0; i < 20; i++) {
            want.add("second-" + i);
        }
        assertEquals(want, seen);
    }

    /** One queue is one order for everybody, however many producers and consumers there are. */
    @Test
    void globalOrderIsTheQueuesOrder() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        Inbox inbox = new Inbox();
        for (int i = 0; i < 2; i++) {
            clients.start(orderly(group, topic, inbox.orderly()));
        }
        List<DefaultMQProducer> producers = List.of(clients.producer(), clients.producer());
        List<String> want = new ArrayList<>();
        for (int i = 0; i < 30; i++) {
            want.add("m" + i);
            send(producers.get(i % 2), message(topic, "m" + i));
        }
        inbox.await(30);
        assertEquals(want, inbox.bodies());
    }
}
