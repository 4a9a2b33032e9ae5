package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** POP over remoting: the broker keeps track of each message that a group was given. */
@Execution(ExecutionMode.CONCURRENT)
class PopTest {
    private static final int INVISIBLE_MILLIS = 60_000;
    private static final int SHORT_MILLIS = 5_000; // until a message comes again; what is acknowledged is so before

    private static DefaultMQPushConsumer popper(Clients clients, String group, String topic, Inbox inbox) throws Exception {
        clients.cluster.admin().setMessageRequestMode(clients.cluster.broker, topic, group, MessageRequestMode.POP, 0, 5_000);
        DefaultMQPushConsumer push = clients.newPush(group);
        push.setClientRebalance(false);
        push.setPopInvisibleTime(5_000); // what a consumer drops when it changes to pull comes again after that
        push.subscribe(topic, "*");
        push.registerMessageListener(inbox.concurrently());
        return clients.start(push);
    }

    @Test
    void aPushConsumerPops() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(4);
            String group = clients.group();
            List<String> sent = Clients.sendBodies(clients.producer(), topic, "m", 100);
            Inbox inbox = new Inbox();
            popper(clients, group, topic, inbox);
            inbox.await(100);
            assertEquals(new TreeSet<>(sent), new TreeSet<>(inbox.bodies()));
            Await.until("the group to have acknowledged 100", () -> clients.committed(group, topic) == 100);
        }
    }

    @Test
    void whatIsNotAcknowledgedComesAgainOnce() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(2);
            Pop pop = new Pop(clients, topic, clients.group());
            Set<String> sent = new TreeSet<>(Clients.sendBodies(clients.producer(), topic, "m", 10));
            List<MessageExt> first = pop.popAll(10, SHORT_MILLIS);
            assertEquals(sent, Pop.bodies(first));
            assertTrue(pop.ack(first.get(3)));
            sent.remove(Inbox.body(first.get(3)));

            List<MessageExt> again = pop.popAll(9, INVISIBLE_MILLIS);
            assertEquals(sent, Pop.bodies(again));
            for (MessageExt m : again) {
                assertEquals(1, m.getReconsumeTimes());
                assertEquals(topic, m.getTopic());
            }
            assertEquals(List.of(), pop.pop(INVISIBLE_MILLIS, 0), "nothing is handed out twice before its time");
            assertEquals(false, pop.ack(first.get(0)), "a receipt whose time is over");
            for (MessageExt m : again) {
                assertTrue(pop.ack(m));
            }
        }
    }

    @Test
    void aNewInvisibleTimeMakesANewReceipt() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(1);
            Pop pop = new Pop(clients, topic, clients.group());
            Clients.send(clients.producer(), message(topic, "m"));
            MessageExt m = pop.popAll(1, INVISIBLE_MILLIS).get(0);
            String renewed = pop.renew(m, SHORT_MILLIS);
            assertNotEquals(Pop.receipt(m), renewed);
            MessageExt again = pop.popAll(1, INVISIBLE_MILLIS).get(0);
            assertEquals(1, again.getReconsumeTimes());
            assertTrue(pop.ack(again));
        }
    }

    @Test
    void killsLoseNothing() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(2);
            DefaultMQProducer producer = clients.producer();
            Pop pop = new Pop(clients, topic, clients.group());
            Set<String> expected = new TreeSet<>(Clients.sendBodies(producer, topic, "m", 40));
            List<MessageExt> first = pop.popAll(40, 3 * SHORT_MILLIS);
            for (MessageExt m : first.subList(0, 20)) {
                assertTrue(pop.ack(m));
                expected.remove(Inbox.body(m));
            }
            cluster.process.kill();
            cluster.process.start();
            clients.awaitRoute(topic, 2);
            List<MessageExt> again = new ArrayList<>(pop.popAll(20, INVISIBLE_MILLIS));
            assertEquals(expected, Pop.bodies(again), "what was acknowledged stays so, the rest comes again");
            for (MessageExt m : again) {
                assertTrue(pop.ack(m));
            }
            cluster.process.kill();
            cluster.process.start();
            clients.awaitRoute(topic, 2);
            Clients.send(producer, message(topic, "last"));
            assertEquals(Set.of("last"), Pop.bodies(pop.popAll(1, INVISIBLE_MILLIS)));
        }
    }

    @Test
    void aWaitingPopIsServedWhenAMessageComes() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(4);
            DefaultMQProducer producer = clients.producer();
            Pop pop = new Pop(clients, topic, clients.group());
            assertEquals(List.of(), pop.pop(INVISIBLE_MILLIS, 0));
            CompletableFuture<List<MessageExt>> waiting = pop.popAsync(-1, INVISIBLE_MILLIS, 15_000, false, null);
            CompletableFuture<Boolean> told = pop.notification(15_000);
            Clients.send(producer, message(topic, "m"));
            assertEquals(1, waiting.get().size());
            Clients.send(producer, message(topic, "m"));
            assertTrue(told.get());
        }
    }

    @Test
    void aGroupChangesFromPopToPullAndBack() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(2);
            String group = clients.group();
            DefaultMQProducer producer = clients.producer();
            Clients.sendBodies(producer, topic, "popped", 20);
            Inbox inbox = new Inbox();
            DefaultMQPushConsumer push = popper(clients, group, topic, inbox);
            inbox.await(20);
            Await.until("the group to have acknowledged 20", () -> clients.committed(group, topic) == 20);

            clients.cluster.admin().setMessageRequestMode(clients.cluster.broker, topic, group, MessageRequestMode.PULL, 0, 5_000);
            Clients.refresh(push.getDefaultMQPushConsumerImpl().getmQClientFactory());
            Clients.sendBodies(producer, topic, "pulled", 20);
            inbox.await(40);
            clients.awaitCommitted(push, topic, 40);

            clients.cluster.admin().setMessageRequestMode(clients.cluster.broker, topic, group, MessageRequestMode.POP, 0, 5_000);
            Clients.refresh(push.getDefaultMQPushConsumerImpl().getmQClientFactory());
            Clients.sendBodies(producer, topic, "again", 20);
            inbox.await(60);
            Await.until("the group to have acknowledged 60", () -> clients.committed(group, topic) == 60);
            assertEquals(60, new TreeSet<>(inbox.bodies()).size());
        }
    }

    @Test
    void aConsumerThatDiesLeavesNothingBehind() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(2);
            String group = clients.group();
            Pop dead = new Pop(clients, topic, group); // takes and never acknowledges
            Set<String> sent = new TreeSet<>(Clients.sendBodies(clients.producer(), topic, "m", 20));
            dead.popAll(20, 2 * SHORT_MILLIS);
            Inbox inbox = new Inbox();
            popper(clients, group, topic, inbox);
            inbox.await(20);
            assertEquals(sent, new TreeSet<>(inbox.bodies()));
            for (MessageExt m : inbox.all()) {
                assertEquals(1, m.getReconsumeTimes());
            }
        }
    }

    @Test
    void orderIsKept() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(1);
            Pop pop = new Pop(clients, topic, clients.group());
            List<String> sent = Clients.sendBodies(clients.producer(), topic, "m", 40);
            List<MessageExt> first = pop.popAsync(-1, INVISIBLE_MILLIS, 0, true, "one").get();
            assertEquals(sent.subList(0, 32), first.stream().map(Inbox::body).collect(Collectors.toList()));
            assertEquals(List.of(), pop.popAsync(-1, INVISIBLE_MILLIS, 0, true, "two").get(), "the queue is blocked");
            List<MessageExt> same = pop.popAsync(-1, SHORT_MILLIS, 0, true, "one").get();
            assertEquals(sent.subList(0, 32), same.stream().map(Inbox::body).collect(Collectors.toList()));
            assertEquals(0, same.get(0).getReconsumeTimes(), "the same attempt does not count");
            List<MessageExt> again = pop.popAsync(-1, INVISIBLE_MILLIS, 10_000, true, "three").get();
            assertEquals(sent.subList(0, 32), again.stream().map(Inbox::body).collect(Collectors.toList()));
            assertEquals(1, again.get(0).getReconsumeTimes());
            CompletableFuture<List<MessageExt>> rest = pop.popAsync(-1, INVISIBLE_MILLIS, 10_000, true, "four");
            for (MessageExt m : again) {
                assertTrue(pop.ack(m));
            }
            assertEquals(sent.subList(32, 40), rest.get().stream().map(Inbox::body).collect(Collectors.toList()));
        }
    }

    @Test
    void whatFailsTooOftenIsDead() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(1);
            String group = clients.group(config -> config.setRetryMaxTimes(2));
            Pop pop = new Pop(clients, topic, group);
            Clients.send(clients.producer(), message(topic, "bad"));
            for (int attempt = 0; attempt <= 2; attempt++) {
                assertEquals(attempt, pop.popAll(1, 10).get(0).getReconsumeTimes());
            }
            assertEquals(List.of("bad"), clients.read(MixAll.getDLQTopic(group), 1).bodies());
        }
    }

    @Test
    void batchesAreAcknowledged() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(1);
            String group = clients.group();
            Pop pop = new Pop(clients, topic, group);
            Clients.sendBodies(clients.producer(), topic, "m", 20);
            List<MessageExt> messages = pop.popAll(20, 3 * SHORT_MILLIS);
            pop.batchAck(messages.subList(0, 19));
            Await.until("the group to have acknowledged 19", () -> clients.committed(group, topic) == 19);
            List<MessageExt> again = pop.popAll(1, INVISIBLE_MILLIS);
            assertEquals(Pop.bodies(messages.subList(19, 20)), Pop.bodies(again));
            pop.batchAck(again); // of the retry topic
            assertEquals(List.of(), pop.pop(INVISIBLE_MILLIS, 0));
        }
    }
}
