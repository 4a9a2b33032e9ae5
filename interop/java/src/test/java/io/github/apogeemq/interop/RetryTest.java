package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Retries of messages that a consumer fails on, with short delay levels: the first retry is of level 3. */
@Execution(ExecutionMode.CONCURRENT)
class RetryTest {
    private static Cluster cluster;
    private Clients clients;

    @BeforeAll
    static void start() throws Exception {
        cluster = Cluster.own("127.0.0.1", "--message-delay-level", "1s 1h 1s 2s 3s 1h");
    }

    @AfterAll
    static void stop() throws Exception {
        if (cluster != null) {
            cluster.close();
        }
    }

    @BeforeEach
    void connect() {
        clients = new Clients(cluster);
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private DefaultMQPushConsumer failing(String group, String topic, Inbox inbox, Function<MessageExt, Boolean> succeeds)
        throws Exception {
        DefaultMQPushConsumer push = clients.newPush(group);
        push.subscribe(topic, "*");
        push.registerMessageListener((MessageListenerConcurrently) (batch, context) -> {
            inbox.add(batch);
            return succeeds.apply(batch.get(0)) ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS
                : ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        return push;
    }

    /** The levels that must not be taken are an hour long. */
    @Test
    void eachRetryWaitsForTheNextLevel() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        Inbox inbox = new Inbox();
        List<Long> at = Collections.synchronizedList(new ArrayList<>());
        List<Integer> times = Collections.synchronizedList(new ArrayList<>());
        clients.start(failing(group, topic, inbox, m -> {
            at.add(System.nanoTime());
            times.add(m.getReconsumeTimes());
            return m.getReconsumeTimes() == 3;
        }));
        send(clients.producer(), message(topic, "m"));
        inbox.await(4);
        assertEquals(List.of(0, 1, 2, 3), times);
        for (int i = 1; i <= 3; i++) {
            long millis = (at.get(i) - at.get(i - 1)) / 1_000_000;
            assertTrue(millis >= i * 1_000 - 20, "retry " + i + " came after " + millis + " ms");
        }
    }

    @Test
    void deadLetterIsConsumedAndSentAgain() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        String dead = MixAll.getDLQTopic(group);
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        boolean[] healed = {false};
        DefaultMQPushConsumer push = failing(group, topic, inbox, m -> healed[0]);
        push.setMaxReconsumeTimes(1);
        clients.start(push);
        Message m = message(topic, "m");
        m.setKeys("key");
        String id = send(producer, m).getMsgId();
        inbox.await(2);
        clients.awaitRoute(dead, 1);
        Inbox letters = new Inbox();
        clients.push(clients.group(), dead, "*", letters);
        MessageExt letter = letters.await(1).get(0);
        assertEquals(dead, letter.getTopic());
        assertEquals("m", Inbox.body(letter));
        assertEquals(id, letter.getMsgId());
        assertEquals("key", letter.getKeys());
        assertEquals(2, letter.getReconsumeTimes());
        assertEquals(topic, letter.getProperty(MessageConst.PROPERTY_RETRY_TOPIC));
        MessageExt origin = producer.viewMessage(topic, letter.getProperty(MessageConst.PROPERTY_ORIGIN_MESSAGE_ID));
        assertEquals(id, origin.getMsgId());
        healed[0] = true;
        send(producer, new Message(topic, letter.getBody()));
        assertEquals(0, inbox.await(3).get(2).getReconsumeTimes());
        assertNotEquals(id, inbox.all().get(2).getMsgId());
    }

    @Test
    void negativeLevelMeansDeadAtOnce() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        DefaultMQPushConsumer push = clients.newPush(group);
        push.subscribe(topic, "*");
        push.registerMessageListener((MessageListenerConcurrently) (batch, context) -> {
            context.setDelayLevelWhenNextConsume(-1);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        clients.start(push);
        send(clients.producer(), message(topic, "m"));
        clients.awaitRoute(MixAll.getDLQTopic(group), 1);
        clients.read(MixAll.getDLQTopic(group), 1).awaitExactly(List.of("m"));
    }

    @Test
    void onlyTheFailedPartOfABatchComesAgain() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        List<String> sent = sendBodies(clients.producer(), topic, "m", 4);
        Inbox first = new Inbox();
        Inbox again = new Inbox();
        DefaultMQPushConsumer push = clients.newPush(group);
        push.setConsumeMessageBatchMaxSize(4);
        push.subscribe(topic, "*");
        push.registerMessageListener((MessageListenerConcurrently) (batch, context) -> {
            if (batch.get(0).getReconsumeTimes() > 0) {
                again.add(batch);
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            }
            first.add(batch);
            context.setAckIndex(1);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        clients.start(push);
        again.awaitExactly(sent.subList(2, 4));
        assertEquals(sent, first.bodies());
        assertEquals(List.of(topic), again.all().stream().map(MessageExt::getTopic).distinct().collect(Collectors.toList()));
    }

    @Test
    void groupWithoutRetryQueuesDropsWhatFails() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group(config -> config.setRetryQueueNums(0));
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.start(failing(group, topic, inbox, m -> false));
        send(clients.producer(), message(topic, "m"));
        inbox.await(1);
        clients.awaitCommitted(push, topic, 1);
        long[] stored = {0};
        clients.cluster.admin().examineTopicStats(MixAll.getRetryTopic(group)).getOffsetTable()
            .forEach((queue, offsets) -> stored[0] += offsets.getMaxOffset());
        assertEquals(0, stored[0], "messages in the retry topic");
    }

    @Test
    void groupThatMayNotConsumeIsRefused() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group(config -> config.setConsumeEnable(false));
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 1);
        MQBrokerException refused = assertThrows(MQBrokerException.class,
            () -> clients.start(clients.newLegacyPull(group)).pull(Clients.onlyQueue(producer, topic), "*", 0, 1));
        assertEquals(ResponseCode.NO_PERMISSION, refused.getResponseCode(), refused.getMessage());
    }
}
