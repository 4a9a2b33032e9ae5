package io.github.apogeemq.interop;

import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.ClientConfig;
import org.apache.rocketmq.client.consumer.AllocateMessageQueueStrategy;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.client.consumer.rebalance.AllocateMessageQueueAveragely;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/**
 * The Java client in a process of its own, for the tests in interop/go: arguments and journal are described in
 * worker_test.go and journal_test.go there. Ends with SIGTERM, when it shuts its client down, or with SIGKILL.
 */
final class Worker {
    private static final int SEND_MILLIS_MAX = 500;
    private static final int PAUSE_MILLIS = 20;
    private static final int SENDERS = 4; // of one producer, each with one message in flight
    // A lookup that times out closes the connection and so fails the others, and the client's start with them. Many
    // JVMs that start at once can stand still for the client's own 3 s.
    private static final int LOOKUP_MILLIS_MAX = 15_000;
    private static final int HEARTBEAT_MILLIS = 1_000; // as in Clients.configured

    private final String namesrv;
    private final String topic;
    private final String group;
    private final String instance;
    private final OutputStream journal;
    private String owned;

    private Worker(String[] args) throws IOException {
        namesrv = args[1];
        topic = args[2];
        group = args[3];
        instance = args[4];
        journal = new FileOutputStream(args[5], true); // unbuffered: a line is written when write returns
    }

    public static void main(String[] args) {
        try {
            Worker worker = new Worker(args);
            if (args[0].equals("produce")) {
                worker.produce(args[6], Integer.parseInt(args[7]), Integer.parseInt(args[8]));
            } else {
                worker.consume(args[7].equals("orderly"));
            }
        } catch (Exception e) {
            e.printStackTrace();
            Runtime.getRuntime().halt(1); // the client's threads would keep the process alive
        }
    }

    private synchronized void write(String kind, String rest) {
        String line = kind + " " + ChronoUnit.MICROS.between(Instant.EPOCH, Instant.now()) + " " + rest + "\n";
        try {
            journal.write(line.getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private synchronized void owns(List<MessageQueue> queues) {
        String now = queues.stream().map(queue -> String.valueOf(queue.getQueueId())).collect(Collectors.joining(","));
        if (!now.equals(owned)) {
            write("owns", now);
            owned = now;
        }
    }

    private <T extends ClientConfig> T configured(T client) {
        client.setNamesrvAddr(namesrv);
        client.setInstanceName(instance);
        client.setHeartbeatBrokerInterval(HEARTBEAT_MILLIS);
        client.setMqClientApiTimeout(LOOKUP_MILLIS_MAX);
        return client;
    }

    private void consume(boolean orderly) throws Exception {
        DefaultMQPushConsumer push = configured(new DefaultMQPushConsumer(group));
        push.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        push.setConsumeThreadMin(1); // so that it consumes in the order of pulls
        push.setConsumeThreadMax(1);
        push.setAllocateMessageQueueStrategy(new AllocateMessageQueueStrategy() {
            private final AllocateMessageQueueStrategy averagely = new AllocateMessageQueueAveragely();

            @Override
            public List<MessageQueue> allocate(String group, String client, List<MessageQueue> all, List<String> clients) {
                List<MessageQueue> mine = averagely.allocate(group, client, all, clients);
                if (!all.isEmpty() && all.get(0).getTopic().equals(topic)) {
                    owns(mine);
                }
                return mine;
            }

            @Override
            public String getName() {
                return averagely.getName();
            }
        });
        push.subscribe(topic, "*");
        if (orderly) {
            push.registerMessageListener((MessageListenerOrderly) (batch, context) -> {
                batch.forEach(this::got);
                return ConsumeOrderlyStatus.SUCCESS;
            });
        } else {
            push.registerMessageListener((MessageListenerConcurrently) (batch, context) -> {
                batch.forEach(this::got);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        }
        push.start();
        Runtime.getRuntime().addShutdownHook(new Thread(push::shutdown));
        write("ready", "");
        new CountDownLatch(1).await(); // until a signal ends the process
    }

    private void got(MessageExt message) {
        String body = new String(message.getBody(), StandardCharsets.UTF_8);
        write("got", message.getQueueId() + " " + message.getQueueOffset() + " " + body.substring(0, body.indexOf(' ')));
    }

    private void produce(String sender, int rate, int bodyBytes) throws Exception {
        DefaultMQProducer producer = configured(new DefaultMQProducer(group));
        producer.setRetryTimesWhenSendFailed(0);
        producer.setSendMsgTimeout(SEND_MILLIS_MAX);
        producer.start();
        write("ready", "");
        long interval = TimeUnit.SECONDS.toNanos(SENDERS) / rate;
        AtomicLong number = new AtomicLong();
        for (int i = 0; i < SENDERS; i++) {
            new Thread(() -> {
                for (long next = System.nanoTime();; next = Math.max(next + interval, System.nanoTime() - interval)) {
                    LockSupport.parkNanos(next - System.nanoTime());
                    send(producer, sender + "-" + number.incrementAndGet(), bodyBytes);
                }
            }, "sender-" + i).start();
        }
    }

    private void send(DefaultMQProducer producer, String id, int bodyBytes) {
        byte[] body = new byte[bodyBytes];
        Arrays.fill(body, (byte) 'x');
        byte[] start = (id + " ").getBytes(StandardCharsets.UTF_8);
        System.arraycopy(start, 0, body, 0, start.length);
        try {
            SendResult result = producer.send(new Message(topic, body));
            if (result.getSendStatus() == SendStatus.SEND_OK) {
                write("acked", result.getMessageQueue().getQueueId() + " " + result.getQueueOffset() + " " + id);
            }
        } catch (Exception e) { // not acknowledged; the broker is down
            LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(PAUSE_MILLIS));
        }
    }
}
