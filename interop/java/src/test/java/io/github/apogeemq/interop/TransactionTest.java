package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.rocketmq.client.hook.SendMessageContext;
import org.apache.rocketmq.client.hook.SendMessageHook;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.client.producer.TransactionSendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.sysflag.MessageSysFlag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

@Execution(ExecutionMode.CONCURRENT)
class TransactionTest {
    private static final String HALF = "RMQ_SYS_TRANS_HALF_TOPIC";
    private static final String CHECK_MAX = "TRANS_CHECK_MAX_TIME_TOPIC";
    private static final String[] QUICK = {"--transaction-check-interval", "500ms", "--transaction-time-out", "100ms"};

    /** Ends transactions as the argument of the send says; what it is asked is noted, and answered as told. */
    private static final class Decider implements TransactionListener {
        final Map<String, List<MessageExt>> asked = new ConcurrentHashMap<>();
        volatile LocalTransactionState answer = LocalTransactionState.UNKNOW;

        @Override
        public LocalTransactionState executeLocalTransaction(Message m, Object state) {
            return (LocalTransactionState) state;
        }

        @Override
        public LocalTransactionState checkLocalTransaction(MessageExt m) {
            asked.merge(Inbox.body(m), List.of(m), (a, b) -> Stream.concat(a.stream(), b.stream()).collect(Collectors.toList()));
            return answer;
        }

        int times(String body) {
            return asked.getOrDefault(body, List.of()).size();
        }

        /** How often it had been asked each time that it was asked. */
        Set<Integer> checks(String body) {
            return asked.getOrDefault(body, List.of()).stream().map(TransactionTest::checks).collect(Collectors.toSet());
        }
    }

    private static TransactionMQProducer producer(Clients clients, String group, Decider decider) throws Exception {
        TransactionMQProducer producer = clients.newTransactionProducer(group);
        producer.setTransactionListener(decider);
        clients.start(producer);
        return producer;
    }

    private static TransactionSendResult send(TransactionMQProducer producer, Message m, LocalTransactionState state) throws Exception {
        TransactionSendResult result = producer.sendMessageInTransaction(m, state);
        assertEquals(SendStatus.SEND_OK, result.getSendStatus(), result.toString());
        assertNotNull(result.getTransactionId());
        return result;
    }

    private static int checks(MessageExt m) {
        return Integer.parseInt(m.getUserProperty(MessageConst.PROPERTY_TRANSACTION_CHECK_TIMES));
    }

    @Test
    void committedMessagesComeAndRolledBackOnesDoNot() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(1);
            TransactionMQProducer producer = producer(clients, Names.unique("producers"), new Decider());
            send(producer, message(topic, "rolled back"), LocalTransactionState.ROLLBACK_MESSAGE);
            Message m = message(topic, "committed");
            m.setTags("TagA");
            m.setKeys("key");
            m.putUserProperty("user", "property");
            TransactionSendResult sent = send(producer, m, LocalTransactionState.COMMIT_MESSAGE);
            MessageExt got = clients.read(topic, 1).all().get(0);
            assertEquals("committed", Inbox.body(got));
            assertEquals(sent.getMsgId(), got.getMsgId());
            assertEquals(sent.getTransactionId(), got.getTransactionId());
            assertEquals(List.of("TagA", "key", "property"), List.of(got.getTags(), got.getKeys(), got.getUserProperty("user")));
            assertEquals(MessageSysFlag.TRANSACTION_COMMIT_TYPE, MessageSysFlag.getTransactionValue(got.getSysFlag()));
            MessageExt half = producer.viewMessage(HALF, sent.getMsgId());
            assertEquals(half.getCommitLogOffset(), got.getPreparedTransactionOffset());
            assertEquals(half.getQueueOffset(), sent.getQueueOffset());
            assertEquals(topic, half.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
            assertNull(got.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
        }
    }

    @Test
    void unknownTransactionsAreAskedForUntilTheyAreDecided() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", QUICK); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(1);
            Decider decider = new Decider();
            String group = Names.unique("producers");
            TransactionMQProducer producer = producer(clients, group, decider);
            TransactionSendResult sent = send(producer, message(topic, "late"), LocalTransactionState.UNKNOW);
            Await.until("two checks", () -> decider.times("late") >= 2);
            List<MessageExt> asked = decider.asked.get("late");
            assertEquals(topic, asked.get(0).getTopic());
            assertEquals(sent.getTransactionId(), asked.get(0).getTransactionId());
            // The client has several threads for what it is asked: the second check may come to the listener first.
            Await.until("checks are counted", () -> decider.checks("late").containsAll(Set.of(1, 2)));
            decider.answer = LocalTransactionState.COMMIT_MESSAGE;
            clients.read(topic, 1).awaitExactly(List.of("late"));
            decider.answer = LocalTransactionState.ROLLBACK_MESSAGE;
            send(producer, message(topic, "never"), LocalTransactionState.UNKNOW);
            Await.until("a check", () -> decider.times("never") >= 1);
            int before = decider.times("late");
            send(producer, message(topic, "after"), LocalTransactionState.COMMIT_MESSAGE);
            clients.read(topic, 2).awaitExactly(List.of("late", "after"));
            assertEquals(before, decider.times("late"));
        }
    }

    @Test
    void anotherProducerOfTheGroupAnswersForOneThatIsGone() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", QUICK); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(1);
            String group = Names.unique("producers");
            TransactionMQProducer first = producer(clients, group, new Decider());
            send(first, message(topic, "orphan"), LocalTransactionState.UNKNOW);
            first.shutdown();
            Decider decider = new Decider();
            decider.answer = LocalTransactionState.COMMIT_MESSAGE;
            TransactionMQProducer second = producer(clients, group, decider);
            send(second, message(topic, "own"), LocalTransactionState.COMMIT_MESSAGE); // which brings it to the broker
            clients.read(topic, 2).awaitExactly(List.of("orphan", "own"));
            assertTrue(decider.times("orphan") >= 1); // a slow answer is asked for again
        }
    }

    /** After the greatest number of checks the message is in a topic of its own, from where mqadmin resumes it. */
    @Test
    void whatNobodyDecidesIsGivenUpAndCanBeResumed() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", QUICK[0], QUICK[1], QUICK[2], QUICK[3], "--transaction-check-max", "6");
            Clients clients = new Clients(cluster)) {
            String topic = clients.topic(1);
            Decider decider = new Decider();
            TransactionMQProducer producer = producer(clients, Names.unique("producers"), decider);
            send(producer, message(topic, "undecided"), LocalTransactionState.UNKNOW);
            clients.awaitRoute(CHECK_MAX, 1);
            MessageExt lost = clients.read(CHECK_MAX, 1).all().get(0);
            assertEquals("undecided", Inbox.body(lost));
            assertEquals(6, checks(lost));
            int times = decider.times("undecided"); // none while the producer had not sent its first heartbeat
            assertTrue(times >= 1 && times <= 6, "asked " + times + " times");
            decider.answer = LocalTransactionState.COMMIT_MESSAGE;
            assertTrue(cluster.admin().resumeCheckHalfMessage(CHECK_MAX, lost.getMsgId()));
            clients.read(topic, 1).awaitExactly(List.of("undecided"));
        }
    }

    /** The broker is killed after it has taken the half message: it goes on checking where it was. */
    @Test
    void kill9BetweenHalfAndCommit() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", QUICK); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(1);
            Decider decider = new Decider();
            TransactionMQProducer producer = producer(clients, Names.unique("producers"), decider);
            send(producer, message(topic, "done"), LocalTransactionState.COMMIT_MESSAGE);
            send(producer, message(topic, "gone"), LocalTransactionState.ROLLBACK_MESSAGE);
            send(producer, message(topic, "open"), LocalTransactionState.UNKNOW);
            Await.until("a check", () -> decider.times("open") >= 1);
            clients.read(topic, 1).awaitExactly(List.of("done"));
            cluster.process.kill();
            int before = decider.times("open");
            int decided = decider.times("gone") + decider.times("done"); // a slow machine may be asked before it has decided
            cluster.process.start();
            Await.until("a check after the restart", () -> decider.times("open") > before + 1);
            assertTrue(Collections.max(decider.checks("open")) > before);
            decider.answer = LocalTransactionState.COMMIT_MESSAGE;
            clients.read(topic, 2).awaitExactly(List.of("done", "open"));
            assertEquals(decided, decider.times("gone") + decider.times("done"));
        }
    }

    /** The client refuses delays, so they are put in behind its back, as clients of other languages send them. */
    @Test
    void delayCountsFromTheCommit() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(1);
            TransactionMQProducer producer = producer(clients, Names.unique("producers"), new Decider());
            producer.getDefaultMQProducerImpl().registerSendMessageHook(new SendMessageHook() {
                @Override
                public String hookName() {
                    return "delay";
                }

                @Override
                public void sendMessageBefore(SendMessageContext context) {
                    MessageAccessor.putProperty(context.getMessage(), MessageConst.PROPERTY_DELAY_TIME_LEVEL, "2");
                }

                @Override
                public void sendMessageAfter(SendMessageContext context) {
                }
            });
            TransactionSendResult sent = send(producer, message(topic, "later"), LocalTransactionState.COMMIT_MESSAGE);
            MessageExt half = producer.viewMessage(HALF, sent.getMsgId());
            MessageExt got = clients.read(topic, 1).all().get(0);
            long millis = got.getStoreTimestamp() - half.getStoreTimestamp();
            assertTrue(millis >= 5_000 && millis < 15_000, "delivered after " + millis + " ms");
        }
    }
}
