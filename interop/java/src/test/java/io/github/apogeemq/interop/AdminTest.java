package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Collection;
import java.util.Set;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.remoting.protocol.admin.TopicOffset;
import org.apache.rocketmq.remoting.protocol.body.Connection;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class AdminTest {
    private Clients clients;
    private DefaultMQAdminExt admin;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
        admin = clients.cluster.admin();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    @Test
    void topicIsCreatedListedAndDeleted() throws Exception {
        String topic = clients.topic(7);
        assertTrue(admin.fetchAllTopicList().getTopicList().contains(topic));
        admin.deleteTopicInBroker(Set.of(clients.cluster.broker), topic);
        admin.deleteTopicInNameServer(Set.of(clients.cluster.nameServer), topic);
        Await.until("the topic to go", () -> clients.queuesInRoute(topic) == 0
            && !admin.fetchAllTopicList().getTopicList().contains(topic));
    }

    @Test
    void topicsConfigurationIsShown() throws Exception {
        assertEquals(7, admin.examineTopicConfig(clients.cluster.broker, clients.topic(7)).getWriteQueueNums());
    }

    @Test
    void topicsOffsetsAreShown() throws Exception {
        String topic = clients.topic(7);
        sendBodies(clients.producer(), topic, "m", 14);
        Collection<TopicOffset> queues = admin.examineTopicStats(topic).getOffsetTable().values();
        assertEquals(7, queues.size());
        assertEquals(14, queues.stream().mapToLong(queue -> queue.getMaxOffset() - queue.getMinOffset()).sum());
    }

    @Test
    void clusterNamesItsBroker() throws Exception {
        assertTrue(admin.examineBrokerClusterInfo().getBrokerAddrTable().values().stream()
            .anyMatch(data -> clients.cluster.broker.equals(data.getBrokerAddrs().get(0L))));
    }

    @Test
    void brokersRuntimeStatsAreShown() throws Exception {
        assertTrue(admin.fetchBrokerRuntimeStats(clients.cluster.broker).getTable().containsKey("brokerVersionDesc"));
    }

    @Test
    void progressOfAGroupIsShown() throws Exception {
        String topic = clients.topic(2);
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.push(Names.unique("group"), topic, "*", inbox);
        inbox.awaitExactly(sendBodies(producer, topic, "m", 10));
        clients.awaitCommitted(push, topic, 10);
        push.shutdown();
        sendBodies(producer, topic, "more", 6);
        assertEquals(6, admin.examineConsumeStats(push.getConsumerGroup(), topic).computeTotalDiff());
    }

    @Test
    void connectionsOfAGroupAreShownWhileTheyLast() throws Exception {
        String group = Names.unique("group");
        DefaultMQPushConsumer push = clients.push(group, clients.topic(2), "*", new Inbox());
        clients.awaitRoute(MixAll.getRetryTopic(group), 1);
        Set<Connection> connections = admin.examineConsumerConnectionInfo(group).getConnectionSet();
        assertEquals(1, connections.size());
        assertEquals(push.buildMQClientId(), connections.iterator().next().getClientId());
        push.shutdown();
        Await.until("the member to be gone", () -> {
            try {
                admin.examineConsumerConnectionInfo(group);
                return false;
            } catch (MQBrokerException | MQClientException e) {
                return true;
            }
        });
    }
}
