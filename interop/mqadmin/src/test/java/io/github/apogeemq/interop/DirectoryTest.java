package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageRequestMode;
import org.apache.rocketmq.remoting.RPCHook;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** A store directory that the original wrote is opened by Apogee, used, given back, and opened by the original again. */
@Execution(ExecutionMode.CONCURRENT)
class DirectoryTest {
    private static final String LISTEN = "127.0.0.1";
    private static final String TOPIC = "DirectoryTopic";
    private static final String GROUP = "DirectoryGroup";
    private static final String SCHEDULE = "SCHEDULE_TOPIC_XXXX";
    private static final int MESSAGES = 200;
    private static final int LEVEL_30_SECONDS = 4;
    private static final int LEVEL_1_HOUR = 17;
    private static final int COMMAND_SECONDS_MAX = 30;
    private static final int COMMIT_MILLIS = 500;
    private static final int POPPED = 40;
    private static final int INVISIBLE_MILLIS = 30_000;

    /** When timed messages fall due: while Apogee has the directory, and when the original has it again. */
    private static final long SOON_MILLIS = 30_000;
    private static final long LATE_MILLIS = 120_000;

    /** What the group has consumed, over all owners of the directory, and what came twice. */
    private final Set<String> consumed = ConcurrentHashMap.newKeySet();
    private final ConcurrentLinkedQueue<String> twice = new ConcurrentLinkedQueue<>();
    private final ConcurrentHashMap<String, String> places = new ConcurrentHashMap<>();
    /** Transactions that a broker has asked for. */
    private final Set<String> asked = ConcurrentHashMap.newKeySet();
    private volatile String failing = "";
    /** What was given to a consumer that pops, and how many requests of each code of a consumer were answered with success. */
    private final Set<String> popped = ConcurrentHashMap.newKeySet();
    private final ConcurrentHashMap<Integer, Integer> answers = new ConcurrentHashMap<>();
    private final RPCHook answered = new RPCHook() {
        @Override
        public void doBeforeRequest(String address, RemotingCommand request) {
        }

        @Override
        public void doAfterResponse(String address, RemotingCommand request, RemotingCommand response) {
            if (response != null && response.getCode() == ResponseCode.SUCCESS) {
                answers.merge(request.getCode(), 1, Integer::sum);
            }
        }
    };

    @Test
    void aDirectoryOfTheOriginalIsTakenOverAndGivenBack(@TempDir Path dir) throws Exception {
        passOn(dir, ApogeeProcess::stop, Deliveries.ONCE);
        assertEquals(List.of(), List.copyOf(twice), "consumed twice");
    }

    /** Messages may come twice, then: offsets are behind, and RocketMQ's note of how far it has delivered its delay levels. */
    @Test
    void aDirectoryWhoseOwnersWereKilledLosesNothing(@TempDir Path dir) throws Exception {
        passOn(dir, ApogeeProcess::kill, Deliveries.AT_LEAST_ONCE);
    }

    /** What waits for its moment waits on whoever has the directory, and comes once; what was recalled does not come. */
    @Test
    void timedMessagesAreDeliveredByWhoeverHasTheDirectory(@TempDir Path dir) throws Exception {
        long now = System.currentTimeMillis();
        String recalled;
        ApogeeProcess original = MqadminNode.originalIn(dir);
        original.start();
        try {
            sendTimed(original, "soon", now + SOON_MILLIS);
            sendTimed(original, "late", now + LATE_MILLIS);
            recalled = sendTimed(original, "recalled", now + LATE_MILLIS);
        } finally {
            original.stop();
        }

        ApogeeProcess apogee = new ApogeeProcess(dir, LISTEN);
        apogee.start();
        try {
            DefaultMQPushConsumer consumer = consume(apogee);
            sendTimed(apogee, "late too", now + LATE_MILLIS + 500);
            DefaultMQProducer producer = new DefaultMQProducer("DirectoryProducer");
            start(producer, apogee);
            producer.recallMessage(TOPIC, recalled);
            producer.shutdown();
            Await.until("what falls due is consumed", Await.MAX.multipliedBy(2), () -> consumed.contains("soon"));
            assertEquals(Set.of("soon"), consumed);
            stop(consumer, apogee);
        } finally {
            apogee.stop();
        }
        leave(dir);

        original = MqadminNode.originalIn(dir);
        original.start();
        try {
            assertTrue(System.currentTimeMillis() < now + LATE_MILLIS, "the machine was too slow for this test");
            DefaultMQPushConsumer consumer = consume(original);
            Await.until("what is left is consumed", Await.MAX.multipliedBy(4), () -> consumed.size() == 3);
            send(original, "last", 1, 0);
            Await.until("what was sent behind it is consumed", () -> consumed.contains("last0"));
            consumer.shutdown();
            assertEquals(Set.of("soon", "late", "late too", "last0"), consumed);
        } finally {
            original.kill();
        }
        assertEquals(List.of(), List.copyOf(twice), "consumed twice");
    }

    /** What a group has popped and not acknowledged comes again from whoever has the directory; once, if it was stopped. */
    @Test
    void whatWasPoppedIsDeliveredAgainByWhoeverHasTheDirectory(@TempDir Path dir) throws Exception {
        ApogeeProcess original = MqadminNode.originalIn(dir);
        original.start();
        try {
            send(original, "first", POPPED, 0);
            DefaultMQAdminExt admin = admin(original);
            String broker = admin.examineBrokerClusterInfo().getBrokerAddrTable().values().iterator().next().selectBrokerAddr();
            admin.setMessageRequestMode(broker, TOPIC, GROUP, MessageRequestMode.POP, 0, Await.MAX.toMillis());
            admin.shutdown();
            popAllBut(original, POPPED, Set.of("first3", "first17"), Set.of("first8"));
        } finally {
            original.stop();
        }

        ApogeeProcess apogee = new ApogeeProcess(dir, LISTEN);
        apogee.start();
        try {
            DefaultMQPushConsumer consumer = pop(apogee, Set.of(), Set.of());
            Await.until("what the original had popped comes", Await.MAX.multipliedBy(4), () -> consumed.size() == POPPED);
            consumer.shutdown();
            assertEquals(List.of(), List.copyOf(twice), "consumed twice");
            send(apogee, "second", POPPED, 0);
            popAllBut(apogee, 2 * POPPED, Set.of("second5"), Set.of("second11"));
        } finally {
            apogee.stop();
        }
        leave(dir);

        original = MqadminNode.originalIn(dir);
        original.start();
        try {
            DefaultMQPushConsumer consumer = pop(original, Set.of(), Set.of());
            Await.until("what Apogee had popped comes", Await.MAX.multipliedBy(4), () -> consumed.size() == 2 * POPPED);
            consumer.shutdown();
            assertEquals(List.of(), twice.stream().filter(place -> place.startsWith("first")).collect(Collectors.toList()), "consumed twice");
        } finally {
            original.kill();
        }
    }

    /** Consumes all there is but what is held, or is to come later, and ends when that is acknowledged. */
    private void popAllBut(ApogeeProcess from, int count, Set<String> held, Set<String> later) throws Exception {
        int before = consumed.size();
        answers.clear();
        DefaultMQPushConsumer consumer = pop(from, held, later);
        Await.until("what is to be held is popped", () -> popped.containsAll(held));
        Await.until("the others are acknowledged", () -> answers(RequestCode.ACK_MESSAGE) == count - before - held.size() - later.size());
        Await.until("what is to come later is renewed", () -> answers(RequestCode.CHANGE_MESSAGE_INVISIBLETIME) >= later.size());
        consumer.shutdown();
    }

    private int answers(int code) {
        return answers.getOrDefault(code, 0);
    }

    /** Some messages are held without an answer; some are to come later, which renews their deliveries. */
    private DefaultMQPushConsumer pop(ApogeeProcess from, Set<String> held, Set<String> later) throws Exception {
        DefaultMQPushConsumer consumer = consumer(from, (messages, context) -> {
            MessageExt message = messages.get(0);
            popped.add(body(message));
            if (held.contains(body(message))) {
                LockSupport.park(); // until the JVM ends
            }
            if (held.contains(body(message)) || later.contains(body(message))) {
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            note(message);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.setClientRebalance(false);
        consumer.setPopInvisibleTime(INVISIBLE_MILLIS);
        consumer.start();
        return consumer;
    }

    /** Returns the recall handle. */
    private static String sendTimed(ApogeeProcess to, String body, long moment) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("DirectoryProducer");
        start(producer, to);
        Message message = new Message(TOPIC, body.getBytes(StandardCharsets.UTF_8));
        message.setDeliverTimeMs(moment);
        SendResult result = producer.send(message);
        producer.shutdown();
        return result.getRecallHandle();
    }

    private enum Deliveries { ONCE, AT_LEAST_ONCE }

    private interface End {
        void end(ApogeeProcess owner) throws Exception;
    }

    /** The original, Apogee and the original again own the directory; each but the last ends as told. */
    private void passOn(Path dir, End end, Deliveries deliveries) throws Exception {
        ApogeeProcess original = MqadminNode.originalIn(dir);
        original.start();
        try {
            send(original, "first", MESSAGES, 0);
            send(original, "later", 1, LEVEL_30_SECONDS);
            send(original, "late", 1, LEVEL_1_HOUR);
            TransactionMQProducer transactions = transactions(original, "");
            transactions.sendMessageInTransaction(message("half"), LocalTransactionState.UNKNOW);
            transactions.sendMessageInTransaction(message("committed"), LocalTransactionState.COMMIT_MESSAGE);
            transactions.shutdown();
            failing = "first7";
            DefaultMQPushConsumer consumer = consume(original);
            Await.until("all but the failing message are consumed", () -> consumed.size() == MESSAGES);
            stop(consumer, original);
        } finally {
            end.end(original);
        }
        inspect(dir);

        ApogeeProcess apogee = new ApogeeProcess(dir, LISTEN, "--transaction-check-interval", "500ms", "--transaction-time-out", "1s",
            "--transaction-check-max", "100000");
        apogee.start();
        try {
            failing = "";
            DefaultMQPushConsumer consumer = consume(apogee);
            send(apogee, "second", 20, 0);
            TransactionMQProducer transactions = transactions(apogee, "half");
            transactions.sendMessageInTransaction(message("open"), LocalTransactionState.UNKNOW);
            transactions.sendMessageInTransaction(message("committed here"), LocalTransactionState.COMMIT_MESSAGE);
            transactions.sendMessageInTransaction(message("rolled back"), LocalTransactionState.ROLLBACK_MESSAGE);
            Await.until("the retried, the delayed, the new messages and those of transactions are consumed: " + consumed.size(),
                Await.MAX.multipliedBy(3), () -> consumed.size() == MESSAGES + 1 + 20 + 3);
            assertTrue(consumed.containsAll(List.of("first7", "later0", "half")), () -> new TreeSet<>(consumed).toString());
            transactions.shutdown();
            stop(consumer, apogee);
            DefaultMQAdminExt admin = admin(apogee);
            List<MessageExt> found = admin.queryMessage(TOPIC, "first3", 10, 0, System.currentTimeMillis()).getMessageList();
            assertEquals(List.of("first3"), bodies(found));
            admin.shutdown();
        } finally {
            end.end(apogee);
        }
        leave(dir);

        original = MqadminNode.originalIn(dir);
        original.start();
        try {
            DefaultMQPushConsumer consumer = consume(original);
            send(original, "third", 5, 0);
            asked.clear();
            TransactionMQProducer transactions = transactions(original, "open");
            transactions.sendMessageInTransaction(message("committed there"), LocalTransactionState.COMMIT_MESSAGE); // which brings it to the broker
            Await.until("the newest messages, and one whose transaction was open, are consumed", Await.MAX.multipliedBy(5),
                () -> consumed.size() == MESSAGES + 1 + 20 + 3 + 5 + 2);
            asked.remove("committed"); // the original may have been killed before it had noted that
            assertEquals(Set.of("open"), asked, "transactions that the original asks for");
            transactions.shutdown();
            consumer.shutdown();
            DefaultMQAdminExt admin = admin(original);
            long stored = messages(admin, TOPIC);
            assertTrue(stored >= MESSAGES + 1 + 20 + 3 + 5 + 2, () -> stored + " messages are left");
            if (deliveries == Deliveries.ONCE) {
                assertEquals(MESSAGES + 1 + 20 + 3 + 5 + 2, stored);
            }
            assertTrue(messages(admin, SCHEDULE) >= 3, "delayed messages are gone");
            List<MessageExt> found = admin.queryMessage(TOPIC, "second3", 10, 0, System.currentTimeMillis()).getMessageList();
            assertEquals(List.of("second3"), bodies(found));
            admin.shutdown();
        } finally {
            original.kill();
        }
    }

    private static void send(ApogeeProcess to, String name, int count, int level) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer("DirectoryProducer");
        start(producer, to);
        for (int i = 0; i < count; i++) {
            Message message = new Message(TOPIC, "tag", name + i, (name + i).getBytes(StandardCharsets.UTF_8));
            message.setDelayTimeLevel(level);
            producer.send(message);
        }
        producer.shutdown();
    }

    static void start(DefaultMQProducer producer, ApogeeProcess to) throws Exception {
        producer.setNamesrvAddr(to.nameServer());
        producer.setSendMsgTimeout((int) Await.MAX.toMillis());
        producer.setInstanceName(producer.getProducerGroup() + System.nanoTime());
        producer.start();
        Await.until("the route is known", () -> !producer.fetchPublishMessageQueues("TBW102").isEmpty());
    }

    private static Message message(String body) {
        return new Message(TOPIC, body.getBytes(StandardCharsets.UTF_8));
    }

    /** A producer that commits one message when it is asked, and leaves the others open. */
    private TransactionMQProducer transactions(ApogeeProcess to, String commits) throws Exception {
        TransactionMQProducer producer = new TransactionMQProducer("DirectoryTransactions");
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                return (LocalTransactionState) argument;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                String body = new String(message.getBody(), StandardCharsets.UTF_8);
                asked.add(body);
                return body.equals(commits) ? LocalTransactionState.COMMIT_MESSAGE : LocalTransactionState.UNKNOW;
            }
        });
        start(producer, to);
        return producer;
    }

    private DefaultMQPushConsumer consume(ApogeeProcess from) throws Exception {
        DefaultMQPushConsumer consumer = consumer(from, (messages, context) -> {
            for (MessageExt message : messages) {
                if (body(message).equals(failing)) {
                    context.setDelayLevelWhenNextConsume(LEVEL_30_SECONDS);
                    return ConsumeConcurrentlyStatus.RECONSUME_LATER;
                }
                note(message);
            }
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
        return consumer;
    }

    private DefaultMQPushConsumer consumer(ApogeeProcess from, MessageListenerConcurrently listener) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(GROUP, answered);
        consumer.setNamesrvAddr(from.nameServer());
        consumer.setInstanceName("consumer" + System.nanoTime());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPersistConsumerOffsetInterval(COMMIT_MILLIS);
        consumer.subscribe(TOPIC, "*");
        consumer.registerMessageListener(listener);
        return consumer;
    }

    /** Notes a message as consumed. */
    private void note(MessageExt message) {
        String place = body(message) + " at " + message.getQueueId() + ":" + message.getQueueOffset();
        String first = places.putIfAbsent(body(message), place);
        if (first != null) {
            twice.add(first + ", " + place);
        }
        consumed.add(body(message));
    }

    /** Stops a consumer once all that it consumed is committed: its last commits are one-way, and its end may overtake them. */
    private static void stop(DefaultMQPushConsumer consumer, ApogeeProcess owner) throws Exception {
        DefaultMQAdminExt admin = admin(owner);
        Await.until("what was consumed is committed", () -> admin.examineConsumeStats(GROUP, TOPIC).computeTotalDiff() == 0);
        admin.shutdown();
        consumer.shutdown();
    }

    static DefaultMQAdminExt admin(ApogeeProcess of) throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt(Await.MAX.toMillis());
        admin.setNamesrvAddr(of.nameServer());
        admin.setInstanceName("admin" + System.nanoTime());
        admin.start();
        return admin;
    }

    private static long messages(DefaultMQAdminExt admin, String topic) throws Exception {
        return admin.examineTopicStats(topic).getOffsetTable().values().stream().mapToLong(o -> o.getMaxOffset() - o.getMinOffset()).sum();
    }

    private static String body(MessageExt message) {
        return new String(message.getBody(), StandardCharsets.UTF_8);
    }

    private static List<String> bodies(List<MessageExt> messages) {
        return messages.stream().map(DirectoryTest::body).collect(Collectors.toList());
    }

    /** What {@code apogee inspect} says of a directory that only the original has had. */
    private static void inspect(Path dir) throws Exception {
        String data = dir.resolve("data").toString();
        String summary = apogee(dir, 0, "inspect", "log", data, "--verify");
        assertTrue(summary.contains("no damage: every checksum is right"), summary);
        assertTrue(!summary.contains("checkpoint") && !summary.contains("a node runs on it"), summary);
        Matcher total = Pattern.compile("^(\\d+) records, \\d+ bytes; the log ends at \\d+ ", Pattern.MULTILINE).matcher(summary);
        assertTrue(total.find(), summary);
        assertEquals(apogee(dir, 0, "inspect", "log", data, "--count", "0", "--json").lines().count(), Long.parseLong(total.group(1)), summary);
        String messages = apogee(dir, 0, "inspect", "log", data, "--topic", TOPIC, "--count", "0", "--json");
        for (int i = 0; i < MESSAGES; i++) {
            assertTrue(messages.contains("\"first" + i + "\""), "first" + i + " is not shown: " + messages);
        }
        assertEquals(1, apogee(dir, 0, "inspect", "log", data, "--topic", TOPIC, "--key", "first7", "--count", "0", "--json").lines().count());
        String halves = apogee(dir, 0, "inspect", "log", data, "--topic", "RMQ_SYS_TRANS_HALF_TOPIC", "--count", "0", "--json");
        assertTrue(halves.contains("\"half\"") && halves.contains("\"committed\""), halves); // more when it has asked for one meanwhile
        assertTrue(apogee(dir, 0, "inspect", "base", data).contains("no base"));
        assertTrue(apogee(dir, 1, "inspect", "view", data).contains("there is no view, which only Apogee makes"));
    }

    static void leave(Path dir) throws Exception {
        apogee(dir, 0, "leave", "--dir", dir.resolve("data").toString(), "--yes");
    }

    /** Runs a command that ends with a status, and returns what it prints. */
    private static String apogee(Path dir, int status, String... arguments) throws Exception {
        Path log = dir.resolve(arguments[0] + ".log");
        List<String> command = new ArrayList<>(List.of(ApogeeProcess.binary().getPath()));
        command.addAll(List.of(arguments));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile()).start();
        assertTrue(process.waitFor(COMMAND_SECONDS_MAX, TimeUnit.SECONDS), () -> command + " did not end");
        String output = Files.readString(log);
        assertEquals(status, process.exitValue(), () -> command + ": " + output);
        return output;
    }
}
