package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.PullResult;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.parallel.Execution;
import org.junit.jupiter.api.parallel.ExecutionMode;

@Execution(ExecutionMode.CONCURRENT)
class TagTest {
    private Clients clients;

    @BeforeEach
    void connect() throws Exception {
        clients = Clients.shared();
    }

    @AfterEach
    void disconnect() {
        clients.close();
    }

    private static void sendTagged(DefaultMQProducer producer, String topic, String... tags) throws Exception {
        for (String tag : tags) {
            Message m = message(topic, "of " + tag);
            m.setTags(tag);
            send(producer, m);
        }
    }

    /** AaAa, BBBB and AaBB have one hash code: the broker lets them pass, the client looks at the words. */
    @Test
    void tagsOfOneHashAreToldApartAndCountAsConsumed() throws Exception {
        assertEquals("AaAa".hashCode(), "BBBB".hashCode());
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        sendTagged(producer, topic, "AaAa", "BBBB", "other", "AaBB", "AaAa", "BBBB");
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.push(Names.unique("group"), topic, "AaAa", inbox);
        inbox.awaitExactly(List.of("of AaAa", "of AaAa"));
        clients.awaitCommitted(push, topic, 6);
        PullResult raw = clients.start(clients.newLegacyPull(Names.unique("group")))
            .pull(Clients.onlyQueue(producer, topic), "BBBB || AaBB", 0, 32);
        assertEquals(3, raw.getMsgFoundList().size());
    }

    /** A newer subscription takes the place of the older one with the next pull, for which the held one must end. */
    @Test
    void subscriptionCanBeChanged() throws Exception {
        String topic = clients.topic(1);
        DefaultMQProducer producer = clients.producer();
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer push = clients.push(Names.unique("group"), topic, "A", inbox);
        sendTagged(producer, topic, "B", "A");
        inbox.awaitExactly(List.of("of A"));
        push.subscribe(topic, "B");
        Await.until("a message of the new tag", () -> {
            sendTagged(producer, topic, "A", "B");
            return inbox.bodies().contains("of B");
        });
    }
}
