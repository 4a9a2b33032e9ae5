package io.github.apogeemq.interop;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

/** One of the two that are compared: a name server and a broker in a process, and the clients that are online there. */
final class MqadminNode implements AutoCloseable {
    private static final String LISTEN = "127.0.0.1";

    final String name;
    /** What the scenario's ${...} stand for here. */
    final Map<String, String> variables = new HashMap<>();
    private final Path dir;
    private final ApogeeProcess process;
    private final Map<String, DefaultMQPushConsumer> consumers = new HashMap<>();
    private final Map<String, DefaultMQProducer> producers = new HashMap<>();

    private MqadminNode(String name, Path dir, ApogeeProcess process) throws Exception {
        this.name = name;
        this.dir = dir;
        this.process = process;
        process.start();
        variables.put("namesrv", process.nameServer());
        variables.put("broker", process.broker());
        variables.put("dir", Files.createDirectories(dir.resolve("files")).toString());
    }

    static MqadminNode apogee() throws Exception {
        Path dir = Files.createTempDirectory("mqadmin-apogee-");
        return new MqadminNode("apogee", dir, new ApogeeProcess(dir, LISTEN));
    }

    static MqadminNode original() throws Exception {
        Path dir = Files.createTempDirectory("mqadmin-original-");
        MqadminNode node = new MqadminNode("original", dir, originalIn(dir));
        node.awaitStatistics();
        return node;
    }

    /** The original fails on every question about itself until it has measured for a second (StoreStatsService.getPutTps). */
    private void awaitStatistics() throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(process.nameServer());
        admin.setInstanceName("statistics-" + name);
        admin.start();
        try {
            Await.until(name + " tells its runtime information", () -> {
                try {
                    return !admin.fetchBrokerRuntimeStats(process.broker()).getTable().isEmpty();
                } catch (MQBrokerException e) {
                    return false;
                }
            });
        } finally {
            admin.shutdown();
        }
    }

    /** The original, in a JVM of its own. */
    static ApogeeProcess originalIn(Path dir, String... flags) throws Exception {
        List<String> java = List.of(ProcessHandle.current().info().command().orElse("java"),
            "-Xms512m", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:MaxDirectMemorySize=512m",
            "--add-opens=java.base/java.nio=ALL-UNNAMED", "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
            "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED", "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
            "-cp", System.getProperty("surefire.test.class.path"), "AsApogee");
        return new ApogeeProcess(dir, LISTEN, java, flags);
    }

    /** Puts this node's values in the place of ${...}. */
    String expand(String text) {
        for (Map.Entry<String, String> variable : variables.entrySet()) {
            text = text.replace("${" + variable.getKey() + "}", variable.getValue());
        }
        if (text.contains("${")) {
            throw new IllegalStateException("a value is missing on " + name + ": " + text);
        }
        return text;
    }

    List<String> command(List<String> words) throws Exception {
        List<String> args = new ArrayList<>();
        for (String word : words) {
            args.add(expand(word));
        }
        switch (args.get(0)) {
            case "@send": // TOPIC QUEUE COUNT TAG: bodies and keys are TAG0, TAG1...
                send(args.get(1), Integer.parseInt(args.get(2)), Integer.parseInt(args.get(3)), args.get(4));
                return List.of();
            case "@producer": // GROUP TOPIC: stays online; one message to queue 0
                producers.put(args.get(1), producer(args.get(1)));
                producers.get(args.get(1)).send(message(args.get(2), "online", 0), new MessageQueue(args.get(2), "broker-a", 0));
                return List.of();
            case "@consumer": // GROUP TOPIC EXPRESSION: stays online, from the first offset
                consume(args.get(1), args.get(2), args.get(3));
                return List.of();
            case "@stop": // GROUP
                consumers.remove(args.get(1)).shutdown();
                return List.of();
            case "@file": // PATH TEXT: writes a file; without TEXT, its lines
                if (args.size() == 3) {
                    Files.writeString(Path.of(args.get(1)), args.get(2));
                    return List.of();
                }
                return Files.readAllLines(Path.of(args.get(1)), StandardCharsets.UTF_8);
            default:
                args.addAll(1, List.of("-n", variables.get("namesrv")));
                return MqadminCommand.run(args);
        }
    }

    private DefaultMQProducer producer(String group) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group);
        producer.setNamesrvAddr(variables.get("namesrv"));
        producer.setInstanceName(group + "-" + name);
        producer.start();
        return producer;
    }

    private static Message message(String topic, String tag, int i) {
        return new Message(topic, tag, tag + i, (tag + i).getBytes(StandardCharsets.UTF_8));
    }

    private void send(String topic, int queue, int count, String tag) throws Exception {
        DefaultMQProducer producer = producer("ScenarioProducer");
        try {
            for (int i = 0; i < count; i++) {
                producer.send(message(topic, tag, i), new MessageQueue(topic, "broker-a", queue));
            }
        } finally {
            producer.shutdown();
        }
    }

    private void consume(String group, String topic, String expression) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(variables.get("namesrv"));
        consumer.setInstanceName(group + "-" + name);
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.subscribe(topic, expression);
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> ConsumeConcurrentlyStatus.CONSUME_SUCCESS);
        consumer.start();
        consumers.put(group, consumer);
        variables.put("client." + group, consumer.buildMQClientId());
    }

    @Override
    public void close() throws Exception {
        consumers.values().forEach(DefaultMQPushConsumer::shutdown);
        producers.values().forEach(DefaultMQProducer::shutdown);
        process.kill();
        try (Stream<Path> files = Files.walk(dir)) {
            files.sorted(Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
        }
    }
}
