package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultLitePullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.MessageSelector;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Consumers that select messages by SQL92; retries come after a second. */
@Execution(ExecutionMode.CONCURRENT)
class SqlFilterTest {
    private static Cluster cluster;
    private Clients clients;

    @BeforeAll
    static void start() throws Exception {
        cluster = Cluster.own("127.0.0.1", "--message-delay-level", "1s 1s 1s 1h");
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

    /** Ten messages whose property a is 0 to 9; odd ones are tagged. */
    private static void sendNumbers(DefaultMQProducer producer, String topic) throws Exception {
        for (int i = 0; i < 10; i++) {
            Message m = message(topic, "a" + i);
            m.putUserProperty("a", String.valueOf(i));
            if (i % 2 == 1) {
                m.setTags("odd");
            }
            send(producer, m);
        }
    }

    @Test
    void pushConsumerIsGivenWhatItSelects() throws Exception {
        String topic = clients.topic(4);
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.newPush(Names.unique("group"));
        push.subscribe(topic, MessageSelector.bySql("(TAGS IS NOT NULL AND TAGS IN ('odd', 'other')) AND a BETWEEN 3 AND 7"));
        push.registerMessageListener(inbox.concurrently());
        clients.start(push);
        sendNumbers(producer, topic);
        inbox.awaitExactly(List.of("a3", "a5", "a7"));
        clients.awaitCommitted(push, topic, 10);
    }

    /** Held pulls are answered by what is selected only, and go on behind the rest. */
    @Test
    void waitingConsumerIsNotWokenInVain() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.newPush(Names.unique("group"));
        push.subscribe(topic, MessageSelector.bySql("a > 8"));
        push.registerMessageListener(inbox.concurrently());
        clients.start(push);
        sendNumbers(producer, topic);
        inbox.awaitExactly(List.of("a9"));
        sendNumbers(producer, topic);
        inbox.awaitExactly(List.of("a9", "a9"));
    }

    @Test
    void litePullConsumerIsGivenWhatItSelects() throws Exception {
        String topic = clients.topic(2);
        sendNumbers(clients.producer(), topic);
        DefaultLitePullConsumer pull = clients.newLitePull(Names.unique("group"));
        pull.subscribe(topic, MessageSelector.bySql("a <= 1 OR a >= 8"));
        clients.start(pull);
        Inbox inbox = new Inbox();
        Await.until("four messages", () -> {
            inbox.add(pull.poll(1_000));
            return inbox.all().size() >= 4;
        });
        inbox.awaitExactly(List.of("a0", "a1", "a8", "a9"));
    }

    /** A client pulls by SQL92 only once the broker's answer to a heartbeat has told it a version. */
    @Test
    void singlePullsCarryTheirExpression() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        sendNumbers(producer, topic);
        DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(Names.unique("group")));
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        pull.fetchSubscribeMessageQueues(topic);
        Await.until("the client knows the broker's version", () -> {
            try {
                PullResult result = pull.pull(queue, MessageSelector.bySql("a = 4"), 0, 32);
                assertEquals(1, result.getMsgFoundList().size());
                assertEquals(10, result.getNextBeginOffset());
                return true;
            } catch (MQClientException e) {
                assertTrue(e.getMessage().contains("does not upgrade to support"), e.getMessage());
                return false;
            }
        });
    }

    /** What failed comes again, and what was not selected does not come this way either. */
    @Test
    void whatFailedComesAgain() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.newPush(group);
        push.subscribe(topic, MessageSelector.bySql("a > 7"));
        push.registerMessageListener((MessageListenerConcurrently) (batch, context) -> {
            if (batch.get(0).getReconsumeTimes() == 0) {
                return ConsumeConcurrentlyStatus.RECONSUME_LATER;
            }
            inbox.add(batch);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        clients.start(push);
        sendNumbers(producer, topic);
        inbox.awaitExactly(List.of("a8", "a9"));
        assertTrue(inbox.all().stream().allMatch(m -> m.getReconsumeTimes() == 1));
    }

    /** The broker checks an expression when a consumer starts, and says where it is wrong. */
    @Test
    void badExpressionReachesTheClient() throws Exception {
        String topic = clients.topic(1);
        DefaultMQPushConsumer push = clients.newPush(Names.unique("group"));
        push.subscribe(topic, MessageSelector.bySql("a > 5 AND b > 'x'"));
        push.registerMessageListener(new Inbox().concurrently());
        MQClientException e = assertThrows(MQClientException.class, () -> clients.start(push));
        assertEquals(ResponseCode.SUBSCRIPTION_PARSE_FAILED, e.getResponseCode());
        assertTrue(e.getErrorMessage().contains("line 1, column 13"), e.getErrorMessage());
    }
}
