package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.remoting.protocol.header.SendMessageRequestHeader;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** What the broker refuses that the client would let pass; and that the client's own limits are the broker's. */
@Execution(ExecutionMode.CONCURRENT)
class LimitTest {
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private static void assertRefused(int code, MQBrokerException e) {
        assertEquals(code, e.getResponseCode(), e.getMessage());
    }

    @Test
    void propertiesHaveRoomForThirtyTwoThousandBytes() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        Message full = message(topic, "full");
        full.putUserProperty("k", "v".repeat(32_400));
        send(producer, full);
        Message over = message(topic, "over");
        over.putUserProperty("k", "v".repeat(32_768));
        assertRefused(ResponseCode.MESSAGE_ILLEGAL, assertThrows(MQBrokerException.class, () -> producer.send(over)));
        assertEquals(32_400, clients.read(topic, 1).all().get(0).getUserProperty("k").length());
    }

    @Test
    void topicsHave127Characters() throws Exception {
        String longest = Names.unique("t".repeat(113));
        assertEquals(127, longest.length());
        clients.cluster.admin().createAndUpdateTopicConfig(clients.cluster.broker, new TopicConfig(longest, 1, 1, 6));
        clients.awaitRoute(longest, 1);
        send(clients.producer(), message(longest, "m"));
        clients.read(longest, 1).awaitExactly(List.of("m"));
        refuseTopic(longest + "t");
    }

    @ParameterizedTest
    @ValueSource(strings = {"with space", "a/b", "dot.ted", "日本"})
    void otherCharactersAreRefused(String topic) throws Exception {
        refuseTopic(topic);
        assertThrows(MQClientException.class, () -> clients.producer().send(message(topic, "m")));
    }

    private void refuseTopic(String topic) throws Exception {
        MQClientException refused = assertThrows(MQClientException.class,
            () -> clients.cluster.admin().createAndUpdateTopicConfig(clients.cluster.broker, new TopicConfig(topic, 1, 1, 6)));
        assertEquals(ResponseCode.INVALID_PARAMETER, refused.getResponseCode(), refused.getMessage());
    }

    @ParameterizedTest
    @ValueSource(strings = {"SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC",
        "TRANS_CHECK_MAX_TIME_TOPIC", "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT"})
    void systemTopicsAreNotSentTo(String topic) throws Exception {
        DefaultMQProducer producer = clients.producer();
        assertThrows(MQClientException.class, () -> producer.send(message(topic, "m")));
        assertRefused(ResponseCode.NO_PERMISSION, assertThrows(MQBrokerException.class, () -> sendPastTheClient(producer, topic, false)));
    }

    /** Sends without the client's own checks. */
    private void sendPastTheClient(DefaultMQProducer producer, String topic, boolean batch) throws Exception {
        SendMessageRequestHeader header = new SendMessageRequestHeader();
        header.setProducerGroup(producer.getProducerGroup());
        header.setTopic(topic);
        header.setDefaultTopic("TBW102");
        header.setDefaultTopicQueueNums(1);
        header.setQueueId(0);
        header.setSysFlag(0);
        header.setBornTimestamp(System.currentTimeMillis());
        header.setFlag(0);
        header.setProperties("");
        header.setReconsumeTimes(0);
        header.setBatch(batch);
        Message m = message(topic, "m");
        if (batch) {
            Message delayed = message(topic, "delayed");
            delayed.setDelayTimeLevel(3);
            m.setBody(MessageDecoder.encodeMessages(List.of(delayed, message(topic, "plain"))));
        }
        producer.getDefaultMQProducerImpl().getMqClientFactory().getMQClientAPIImpl().sendMessage(clients.cluster.broker, "broker-a",
            m, header, 10_000, org.apache.rocketmq.client.impl.CommunicationMode.SYNC, null, producer.getDefaultMQProducerImpl());
    }

    @Test
    void batchesAreOfOneTopicAndWithoutDelayOrRetry() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        Message delayed = message(topic, "delayed");
        delayed.setDelayTimeLevel(1);
        Message retry = message("%RETRY%" + clients.group(), "retry");
        for (List<Message> batch : List.of(List.of(message(topic, "a"), message(clients.topic(1), "b")),
            List.of(message(topic, "a"), delayed), List.of(retry))) {
            assertThrows(Exception.class, () -> producer.send(new ArrayList<>(batch)));
        }
        assertEquals(0, clients.cluster.admin().examineTopicStats(topic).getOffsetTable().values().iterator().next().getMaxOffset());
    }

    /** What the client refuses and another client may not: the broker takes the messages and ignores their delay. */
    @Test
    void delayInABatchIsIgnoredAndRetryTopicsRefuseBatches() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        sendPastTheClient(producer, topic, true);
        clients.read(topic, 2).awaitExactly(List.of("delayed", "plain"));
        assertRefused(ResponseCode.MESSAGE_ILLEGAL,
            assertThrows(MQBrokerException.class, () -> sendPastTheClient(producer, "%RETRY%" + clients.group(), true)));
    }

    @Test
    void batchAsAWholeHasTheLimitOfAMessage() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.newProducer();
        producer.setMaxMessageSize(16 << 20);
        producer.setSendMsgTimeout(20_000);
        producer.setRetryTimesWhenSendFailed(0);
        clients.start(producer);
        byte[] part = "x".repeat(3 << 20).getBytes(StandardCharsets.UTF_8);
        // The original meets an exception and answers 1, upon which the client tries again; Apogee answers 13.
        assertThrows(Exception.class, () -> producer.send(List.of(new Message(topic, part), new Message(topic, part))));
        send(producer, new Message(topic, part));
        assertEquals(1, clients.read(topic, 1).all().size());
        assertEquals(0, clients.read(topic, 1).all().get(0).getQueueOffset(), "the refused batch is stored");
    }
}
