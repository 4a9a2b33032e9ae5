package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Messages that wait for a moment of their own, and their recall, which RocketMQ has switched off unless it is told otherwise. */
@Execution(ExecutionMode.CONCURRENT)
class TimerTest {
    private static final String WHEEL = "rmq_sys_wheel_timer";

    /** RocketMQ delivers at the end of the moment's second. */
    private static final long LATE_MILLIS_MAX = 5_000; // on a busy machine; broker.TestMomentsAreKeptExactly knows better

    private static SendResult sendTimed(DefaultMQProducer producer, String topic, String body, Consumer<Message> when) throws Exception {
        Message m = message(topic, body);
        when.accept(m);
        return send(producer, m);
    }

    @Test
    void messagesComeAtTheirMomentAndAsTheyWereSent() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(1);
            Inbox inbox = new Inbox();
            clients.push(Names.unique("group"), topic, "TagA", inbox);
            DefaultMQProducer producer = clients.producer();
            Map<String, Consumer<Message>> ways = new LinkedHashMap<>();
            ways.put("deliver", m -> m.setDeliverTimeMs(System.currentTimeMillis() + 4_700));
            ways.put("milliseconds", m -> m.setDelayTimeMs(4_700));
            ways.put("seconds", m -> m.setDelayTimeSec(5));
            Map<String, Long> due = new LinkedHashMap<>();
            Map<String, SendResult> sent = new LinkedHashMap<>();
            for (Map.Entry<String, Consumer<Message>> way : ways.entrySet()) {
                SendResult result = sendTimed(producer, topic, way.getKey(), m -> {
                    m.setTags("TagA");
                    m.setKeys("key");
                    m.putUserProperty("user", "property");
                    way.getValue().accept(m);
                });
                MessageExt waiting = producer.viewMessage(WHEEL, result.getOffsetMsgId());
                assertEquals(WHEEL, waiting.getTopic());
                assertEquals(topic, waiting.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
                assertNotNull(result.getRecallHandle());
                String moment = waiting.getProperty(MessageConst.PROPERTY_TIMER_DELIVER_MS);
                long delay = way.getKey().equals("seconds") ? 5_000 : 4_700;
                due.put(way.getKey(), moment != null ? Long.parseLong(moment) : waiting.getBornTimestamp() + delay);
                sent.put(way.getKey(), result);
            }
            for (MessageExt got : inbox.await(3)) {
                String way = Inbox.body(got);
                long late = got.getStoreTimestamp() - due.get(way);
                assertTrue(late >= 0 && late < LATE_MILLIS_MAX, way + ": delivered " + late + " ms late");
                assertEquals(sent.get(way).getMsgId(), got.getMsgId());
                assertEquals(List.of("TagA", "key", "property"), List.of(got.getTags(), got.getKeys(), got.getUserProperty("user")));
                assertNotNull(got.getProperty(MessageConst.PROPERTY_TIMER_OUT_MS));
                assertNotNull(got.getProperty(MessageConst.PROPERTY_TIMER_DEQUEUE_MS));
                assertNull(got.getProperty(MessageConst.PROPERTY_REAL_TOPIC));
            }
            assertEquals(3, inbox.all().size());
        }
    }

    @Test
    void momentsThatArePastMeanAtOnceAndThoseTooFarAreRefused() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(1);
            DefaultMQProducer producer = clients.producer();
            SendResult past = sendTimed(producer, topic, "past", m -> m.setDeliverTimeMs(System.currentTimeMillis() - 1));
            assertNull(past.getRecallHandle());
            clients.read(topic, 1).awaitExactly(List.of("past"));
            MQBrokerException refused = assertThrows(MQBrokerException.class,
                () -> sendTimed(producer, topic, "far", m -> m.setDelayTimeSec(3 * 86_400 + 60)));
            assertEquals(ResponseCode.MESSAGE_ILLEGAL, refused.getResponseCode());
        }
    }

    /** The broker is killed while messages wait, and again while they fall due; half of them are recalled. */
    @Test
    void killsLoseAndDoubleNothingAndWhatWasRecalledNeverComes() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(4);
            DefaultMQProducer producer = clients.producer();
            List<String> want = new ArrayList<>();
            long moment = System.currentTimeMillis() + 15_000;
            for (int i = 0; i < 100; i++) {
                String body = "m" + i;
                long own = moment + i;
                SendResult result = sendTimed(producer, topic, body, m -> m.setDeliverTimeMs(own));
                if (i % 2 == 0) {
                    want.add(body);
                } else {
                    assertEquals(result.getMsgId(), producer.recallMessage(topic, result.getRecallHandle()));
                }
            }
            cluster.process.kill();
            cluster.process.start();
            clients.awaitRoute(topic, 4);
            Thread.sleep(Math.max(0, moment + 50 - System.currentTimeMillis())); // into the middle of the deliveries
            cluster.process.kill();
            cluster.process.start();
            clients.awaitRoute(topic, 4);
            Inbox inbox = clients.read(topic, want.size());
            String last = sendBodies(producer, topic);
            clients.read(topic, want.size() + 1);
            inbox.awaitExactly(want);
            want.add(last);
            clients.read(topic, want.size()).awaitExactly(want);
        }
    }

    private static String sendBodies(DefaultMQProducer producer, String topic) throws Exception {
        return Clients.sendBodies(producer, topic, "last", 1).get(0);
    }

    @Test
    void handlesThatNameNothingThatWaitsHere() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(1);
            String other = clients.topic(1);
            DefaultMQProducer producer = clients.producer();
            SendResult sent = sendTimed(producer, topic, "m", m -> m.setDelayTimeMs(2_000));
            MQBrokerException wrong = assertThrows(MQBrokerException.class, () -> producer.recallMessage(other, sent.getRecallHandle()));
            assertEquals(ResponseCode.ILLEGAL_OPERATION, wrong.getResponseCode());
            clients.read(topic, 1).awaitExactly(List.of("m"));
            MQBrokerException late = assertThrows(MQBrokerException.class, () -> producer.recallMessage(topic, sent.getRecallHandle()));
            assertEquals(ResponseCode.ILLEGAL_OPERATION, late.getResponseCode());
        }
    }
}
