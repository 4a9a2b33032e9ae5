package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Map;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.message.Message;
import org.junit.jupiter.api.Test;

class PriorityTest {
    @Test
    void priorityIsTheQueue() throws Exception {
        try (Clients clients = Clients.shared()) {
            TopicConfig config = new TopicConfig(Names.unique("topic"), 4, 4, 6);
            config.setAttributes(Map.of("+message.type", "PRIORITY"));
            clients.cluster.admin().createAndUpdateTopicConfig(clients.cluster.broker, config);
            clients.awaitRoute(config.getTopicName(), 4);
            DefaultMQProducer producer = clients.producer();
            for (int priority : new int[] {0, 1, 2, 3, 100}) {
                Message m = message(config.getTopicName(), "p" + priority);
                m.setPriority(priority);
                assertEquals(Math.min(priority, 3), send(producer, m).getMessageQueue().getQueueId());
            }
        }
    }
}
