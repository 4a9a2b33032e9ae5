package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

/** Topics and groups that change or go while clients are connected. */
@Execution(ExecutionMode.CONCURRENT)
class TopicChangeTest {
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

    private static MQClientInstance client(DefaultMQPushConsumer push) {
        return push.getDefaultMQPushConsumerImpl().getmQClientFactory();
    }

    private static MQClientInstance client(DefaultMQProducer producer) {
        return producer.getDefaultMQProducerImpl().getMqClientFactory();
    }

    /** Changes the queues of a topic, and returns when the clients know. */
    private void resize(String topic, int read, int write, DefaultMQProducer producer, DefaultMQPushConsumer push) throws Exception {
        admin.createAndUpdateTopicConfig(clients.cluster.broker, new TopicConfig(topic, read, write, 6));
        Await.until(write + " queues to write, " + read + " to read", () -> {
            client(producer).updateTopicRouteInfoFromNameServer();
            Clients.refresh(client(push));
            long assigned = push.getDefaultMQPushConsumerImpl().getRebalanceImpl().getProcessQueueTable().keySet().stream()
                .filter(queue -> queue.getTopic().equals(topic)).count();
            return producer.fetchPublishMessageQueues(topic).size() == write && assigned == read;
        });
    }

    private static Set<Integer> queues(Inbox inbox, String prefix) {
        return inbox.all().stream().filter(m -> Inbox.body(m).startsWith(prefix)).map(MessageExt::getQueueId)
            .collect(Collectors.toSet());
    }

    @Test
    void queuesComeAndGoUnderLiveClients() throws Exception {
        String topic = clients.topic(2);
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.push(clients.group(), topic, "*", inbox);
        List<String> all = new ArrayList<>(sendBodies(producer, topic, "two", 8));
        resize(topic, 4, 4, producer, push);
        all.addAll(sendBodies(producer, topic, "four", 16));
        inbox.awaitExactly(all);
        assertEquals(Set.of(0, 1), queues(inbox, "two"));
        assertEquals(Set.of(0, 1, 2, 3), queues(inbox, "four"));
        // Fewer to write first, so that the last messages of the others are read.
        push.suspend();
        all.addAll(sendBodies(producer, topic, "left", 16));
        resize(topic, 4, 1, producer, push);
        all.addAll(sendBodies(producer, topic, "one", 8));
        push.resume();
        inbox.awaitExactly(all);
        assertEquals(Set.of(0, 1, 2, 3), queues(inbox, "left"));
        assertEquals(Set.of(0), queues(inbox, "one"));
        resize(topic, 1, 1, producer, push);
        all.addAll(sendBodies(producer, topic, "last", 4));
        inbox.awaitExactly(all);
    }

    /** A queue that is not read any more refuses pulls, and has its messages when it is read again. */
    @Test
    void queueThatIsCutOffKeepsItsMessages() throws Exception {
        String topic = clients.topic(2);
        DefaultMQProducer producer = clients.producer();
        List<String> sent = sendBodies(producer, topic, "m", 10);
        MessageQueue cut = producer.fetchPublishMessageQueues(topic).stream().filter(q -> q.getQueueId() == 1).findFirst().orElseThrow();
        admin.createAndUpdateTopicConfig(clients.cluster.broker, new TopicConfig(topic, 1, 1, 6));
        clients.awaitRoute(topic, 1);
        MQBrokerException refused = assertThrows(MQBrokerException.class,
            () -> clients.start(clients.newLegacyPull(Names.unique("group"))).pull(cut, "*", 0, 1));
        assertEquals(ResponseCode.INVALID_PARAMETER, refused.getResponseCode(), refused.getMessage());
        admin.createAndUpdateTopicConfig(clients.cluster.broker, new TopicConfig(topic, 2, 2, 6));
        clients.awaitRoute(topic, 2);
        clients.read(topic, 10).awaitExactly(sent);
    }

    private void delete(String topic) throws Exception {
        admin.deleteTopicInBroker(Set.of(clients.cluster.broker), topic);
        admin.deleteTopicInNameServer(Set.of(clients.cluster.nameServer), topic);
        Await.until("the topic to go", () -> clients.queuesInRoute(topic) == 0);
    }

    private void create(String topic, int queues) throws Exception {
        admin.createAndUpdateTopicConfig(clients.cluster.broker, new TopicConfig(topic, queues, queues, 6));
        clients.awaitRoute(topic, queues);
    }

    @Test
    void topicThatIsMadeAgainIsEmptyAndReachesLiveClients() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.push(group, topic, "*", inbox);
        List<String> all = new ArrayList<>(sendBodies(producer, topic, "first", 5));
        inbox.awaitExactly(all);
        clients.awaitCommitted(push, topic, 5);
        delete(topic);
        create(topic, 1);
        assertEquals(0, admin.examineTopicStats(topic).getOffsetTable().values().iterator().next().getMaxOffset());
        client(producer).updateTopicRouteInfoFromNameServer();
        for (String body : sendBodies(producer, topic, "second", 5)) {
            all.add(body);
        }
        List<MessageExt> again = clients.read(topic, 5).all();
        assertEquals(List.of(0L, 1L, 2L, 3L, 4L), again.stream().map(MessageExt::getQueueOffset).collect(Collectors.toList()));
        // The live consumer stands at 5 and takes that for the end; what comes next is its own.
        all.addAll(sendBodies(producer, topic, "third", 5));
        Await.until("a message of the new topic", () -> inbox.bodies().contains("third-4"));
    }

    @Test
    void offsetsOfADeletedTopicAreForgotten() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.push(group, topic, "*", inbox);
        inbox.awaitExactly(sendBodies(producer, topic, "first", 5));
        clients.awaitCommitted(push, topic, 5);
        push.shutdown();
        delete(topic);
        create(topic, 1);
        client(producer).updateTopicRouteInfoFromNameServer();
        List<String> second = sendBodies(producer, topic, "second", 3);
        Inbox resumed = new Inbox();
        clients.push(group, topic, "*", resumed);
        resumed.awaitExactly(second);
    }

    @Test
    void deletedGroupComesBackWithDefaultsAndWithoutOffsets() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group(config -> config.setRetryMaxTimes(3));
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.push(group, topic, "*", inbox);
        List<String> sent = sendBodies(producer, topic, "m", 5);
        inbox.awaitExactly(sent);
        clients.awaitCommitted(push, topic, 5);
        assertEquals(3, admin.examineSubscriptionGroupConfig(clients.cluster.broker, group).getRetryMaxTimes());
        push.shutdown();
        admin.deleteSubscriptionGroup(clients.cluster.broker, group, true);
        assertTrue(!admin.getAllSubscriptionGroup(clients.cluster.broker, 5_000).getSubscriptionGroupTable().containsKey(group));
        Inbox again = new Inbox();
        clients.push(group, topic, "*", again);
        again.awaitExactly(sent);
        assertEquals(16, admin.examineSubscriptionGroupConfig(clients.cluster.broker, group).getRetryMaxTimes());
    }

    @Test
    void groupKeepsItsOffsetsWhenOnlyItsConfigurationGoes() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.push(group, topic, "*", inbox);
        inbox.awaitExactly(sendBodies(producer, topic, "first", 5));
        clients.awaitCommitted(push, topic, 5);
        push.shutdown();
        admin.deleteSubscriptionGroup(clients.cluster.broker, group, false);
        List<String> second = sendBodies(producer, topic, "second", 3);
        Inbox again = new Inbox();
        clients.push(group, topic, "*", again);
        again.awaitExactly(second);
    }
}
