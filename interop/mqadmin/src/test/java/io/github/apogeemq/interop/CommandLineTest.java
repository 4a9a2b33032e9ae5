package io.github.apogeemq.interop;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragelyByCircle;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** Apogee's own command line, against the original server: each line of commandline.txt. */
class CommandLineTest {
    private static final Duration WAIT_MAX = Duration.ofSeconds(60);
    private static final int COMMAND_SECONDS_MAX = 60;
    private static final Pattern WORD = Pattern.compile("'([^']*)'|(\\S+)");

    private static MqadminNode original;
    private static TransactionMQProducer producer;

    @BeforeAll
    static void start() throws Exception {
        original = MqadminNode.original();
    }

    @AfterAll
    static void stop() throws Exception {
        if (producer != null) {
            producer.shutdown();
        }
        if (original != null) {
            original.close();
        }
    }

    @TestFactory
    Stream<DynamicTest> worksOnTheOriginal() throws Exception {
        Path script = Path.of(CommandLineTest.class.getResource("/commandline.txt").toURI());
        return Files.readAllLines(script).stream().filter(line -> !line.isBlank() && !line.startsWith("#"))
            .map(line -> DynamicTest.dynamicTest(line, () -> check(line)));
    }

    /** What allocateMQ of mqadmin, and clients, are told by these classes; clients sort queues and members. */
    @Test
    void allocatesAsClientsDo() throws Exception {
        int[] status = new int[1];
        String created = run(List.of("topic", "create", "Shared", "--queues", "5"), status);
        assertEquals(0, status[0], created);
        List<MessageQueue> queues = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            queues.add(new MessageQueue("Shared", "broker-a", i));
        }
        List<String> members = new ArrayList<>();
        for (String member : List.of("10.0.0.1@a", "10.0.0.10@a", "10.0.0.2@a", "b", "b@1", "c")) {
            members.add(member);
            members.sort(null);
            for (AllocateMessageQueueStrategy strategy : List.of(new AllocateMessageQueueAveragely(), new AllocateMessageQueueAveragelyByCircle())) {
                List<String> want = new ArrayList<>(List.of("CLIENT BROKER QUEUE"));
                for (String each : members) {
                    List<MessageQueue> share = strategy.allocate("group", each, queues, members);
                    share.forEach(queue -> want.add(each + " " + queue.getBrokerName() + " " + queue.getQueueId()));
                    if (share.isEmpty()) {
                        want.add(each + " - -");
                    }
                }
                String got = run(List.of("topic", "allocate", "Shared", "--clients", String.join(",", members), "--strategy", strategy.getName()), status);
                assertEquals(want, got.lines().map(line -> line.replaceAll(" +", " ")).collect(Collectors.toList()));
            }
        }
    }

    /** A line is COMMAND => REGEX, both of one line; "!" before it means that it fails, "$NAME:" that group 1 is kept as ${NAME}. */
    private static void check(String line) throws Exception {
        String[] parts = line.split(" => ", 2);
        boolean fails = parts[0].startsWith("! ");
        String command = fails ? parts[0].substring(2) : parts[0];
        String name = null;
        if (command.startsWith("$")) {
            name = command.substring(1, command.indexOf(':'));
            command = command.substring(command.indexOf(':') + 1).trim();
        }
        if (command.startsWith("@half ")) {
            half(command.substring("@half ".length()));
            return;
        }
        List<String> words = words(original.expand(command));
        Pattern want = Pattern.compile(parts.length > 1 ? original.expand(parts[1]) : "", Pattern.MULTILINE);
        String[] last = new String[1];
        Await.until(line, WAIT_MAX, () -> { // what was changed may show late on the original
            int[] status = new int[1];
            last[0] = run(words, status);
            assertEquals(fails, status[0] != 0, () -> line + " ended with " + status[0] + ":\n" + last[0]);
            return want.matcher(last[0]).find();
        });
        Matcher found = want.matcher(last[0]);
        assertTrue(found.find(), last[0]);
        if (name != null) {
            original.variables.put(name, found.group(1));
        }
    }

    private static List<String> words(String command) {
        List<String> words = new ArrayList<>();
        for (Matcher word = WORD.matcher(command); word.find();) {
            words.add(word.group(1) != null ? word.group(1) : word.group(2));
        }
        return words;
    }

    private static String run(List<String> words, int[] status) throws Exception {
        List<String> command = new ArrayList<>(List.of(ApogeeProcess.binary().getPath()));
        command.addAll(words);
        ProcessBuilder builder = new ProcessBuilder(command).redirectErrorStream(true);
        builder.environment().put("NAMESRV_ADDR", original.variables.get("namesrv"));
        Process process = builder.start();
        process.getOutputStream().close();
        String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        assertTrue(process.waitFor(COMMAND_SECONDS_MAX, TimeUnit.SECONDS), () -> words + " does not end");
        status[0] = process.exitValue();
        return output;
    }

    /** Sends a message whose transaction nobody decides. */
    private static void half(String topic) throws Exception {
        producer = new TransactionMQProducer("Undecided");
        producer.setNamesrvAddr(original.variables.get("namesrv"));
        producer.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                return LocalTransactionState.UNKNOW;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                return LocalTransactionState.UNKNOW;
            }
        });
        producer.start();
        producer.sendMessageInTransaction(new Message(topic, "half".getBytes(StandardCharsets.UTF_8)), null);
    }
}
