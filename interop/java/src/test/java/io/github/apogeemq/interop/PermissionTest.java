package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Properties;
import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** What topics and the broker permit, changed while clients are connected. In turn: the broker's permission is for all. */
class PermissionTest {
    private static Cluster cluster;
    private Clients clients;

    @BeforeAll
    static void start() throws Exception {
        cluster = Cluster.own("127.0.0.1");
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

    private String topic(int permission) throws Exception {
        String topic = clients.topic(1);
        setPermission(topic, permission);
        return topic;
    }

    private void setPermission(String topic, int permission) throws Exception {
        cluster.admin().createAndUpdateTopicConfig(cluster.broker, new TopicConfig(topic, 1, 1, permission));
        awaitRoute(topic, permission);
    }

    private void awaitRoute(String topic, int permission) throws Exception {
        Await.until("permission " + permission + " in the route of " + topic,
            () -> cluster.admin().examineTopicRouteInfo(topic).getQueueDatas().get(0).getPerm() == permission);
    }

    private int refusal(DefaultMQPullConsumer pull, MessageQueue queue) {
        return assertThrows(MQBrokerException.class, () -> pull.pull(queue, "*", 0, 1)).getResponseCode();
    }

    @Test
    void topicThatIsOnlyWrittenIsNotPulled() throws Exception {
        String topic = topic(2);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 3);
        DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(Names.unique("group")));
        assertThrows(MQClientException.class, () -> pull.fetchSubscribeMessageQueues(topic));
        assertEquals(ResponseCode.NO_PERMISSION, refusal(pull, Clients.onlyQueue(producer, topic)));
        setPermission(topic, 6);
        clients.read(topic, 3);
    }

    @Test
    void topicThatIsOnlyReadHasNoQueueToSendTo() throws Exception {
        String topic = topic(6);
        DefaultMQProducer producer = clients.producer();
        List<String> sent = sendBodies(producer, topic, "m", 3);
        setPermission(topic, 4);
        DefaultMQProducer other = clients.producer();
        assertThrows(MQClientException.class, () -> other.send(message(topic, "refused")));
        clients.read(topic, 3).awaitExactly(sent);
    }

    /** The broker itself would take the message: it is the route that keeps clients away. */
    @Test
    void closedTopicIsNeitherReadNorWritten() throws Exception {
        String topic = topic(6);
        DefaultMQProducer producer = clients.producer();
        sendBodies(producer, topic, "m", 1);
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        setPermission(topic, 0);
        DefaultMQProducer other = clients.producer();
        assertThrows(MQClientException.class, () -> other.send(message(topic, "refused")));
        DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(Names.unique("group")));
        assertEquals(ResponseCode.NO_PERMISSION, refusal(pull, queue));
        producer.send(message(topic, "past the route"), queue);
    }

    @Test
    void brokersPermissionMasksThoseOfItsTopics() throws Exception {
        String topic = topic(6);
        DefaultMQProducer producer = clients.producer();
        List<String> sent = sendBodies(producer, topic, "m", 3);
        MessageQueue queue = Clients.onlyQueue(producer, topic);
        DefaultMQPullConsumer pull = clients.start(clients.newLegacyPull(Names.unique("group")));
        setBrokerPermission(4);
        awaitRoute(topic, 4);
        DefaultMQProducer other = clients.producer();
        assertThrows(MQClientException.class, () -> other.send(message(topic, "refused")));
        clients.read(topic, 3).awaitExactly(sent);
        setBrokerPermission(2);
        awaitRoute(topic, 2);
        assertEquals(ResponseCode.NO_PERMISSION, refusal(pull, queue));
        send(clients.producer(), message(topic, "written"));
        assertEquals(6, cluster.admin().examineTopicConfig(cluster.broker, topic).getPerm());
        setBrokerPermission(6);
        awaitRoute(topic, 6);
        clients.read(topic, 4);
    }

    private void setBrokerPermission(int permission) throws Exception {
        Properties change = new Properties();
        change.setProperty("brokerPermission", String.valueOf(permission));
        cluster.admin().updateBrokerConfig(cluster.broker, change);
    }
}
