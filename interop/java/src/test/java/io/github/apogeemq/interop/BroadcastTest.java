package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.sendBodies;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

@Execution(ExecutionMode.CONCURRENT)
class BroadcastTest {
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private DefaultMQPushConsumer broadcast(String group, String topic, String instance, MessageListenerConcurrently listener)
        throws Exception {
        DefaultMQPushConsumer push = clients.newPush(group);
        push.setInstanceName(instance);
        push.setMessageModel(MessageModel.BROADCASTING);
        push.subscribe(topic, "*");
        push.registerMessageListener(listener);
        return clients.start(push);
    }

    /** The client keeps its offsets in a file, which it finds by its own name. The broker is told nothing. */
    @Test
    void memberResumesByItsFileAndTheBrokerKeepsNothing() throws Exception {
        String topic = clients.topic(2);
        String group = clients.group();
        String instance = Names.unique("instance");
        Inbox first = new Inbox();
        DefaultMQPushConsumer push = broadcast(group, topic, instance, first.concurrently());
        first.awaitExactly(sendBodies(clients.producer(), topic, "first", 10));
        String client = push.buildMQClientId();
        push.setAwaitTerminationMillisWhenShutdown(5_000); // what its listener has been given is in its file then
        push.shutdown();
        Path file = Path.of(System.getProperty("rocketmq.client.localOffsetStoreDir"), client, group, "offsets.json");
        assertTrue(Files.readString(file).contains(topic), file + " does not name the topic");
        List<String> missed = sendBodies(clients.producer(), topic, "missed", 10);
        Inbox second = new Inbox();
        broadcast(group, topic, instance, second.concurrently());
        second.awaitExactly(missed);
        assertEquals(0, clients.committed(group, topic));
    }

    @Test
    void failedMessageIsDropped() throws Exception {
        String topic = clients.topic(1);
        String group = clients.group();
        Inbox inbox = new Inbox();
        broadcast(group, topic, Names.unique("instance"), (batch, context) -> {
            inbox.add(batch);
            context.setDelayLevelWhenNextConsume(1);
            return ConsumeConcurrentlyStatus.RECONSUME_LATER;
        });
        List<String> bodies = sendBodies(clients.producer(), topic, "m", 5);
        inbox.awaitExactly(bodies);
        long[] stored = {0};
        clients.cluster.admin().examineTopicStats(MixAll.getRetryTopic(group)).getOffsetTable()
            .forEach((queue, offsets) -> stored[0] += offsets.getMaxOffset());
        assertEquals(0, stored[0], "messages in the retry topic");
    }
}
