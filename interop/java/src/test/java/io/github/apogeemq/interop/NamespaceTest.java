package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static io.github.apogeemq.interop.Clients.send;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.junit.jupiter.api.Test;

class NamespaceTest {
    /** The first kind of namespace is a prefix that clients put before topics and groups. */
    @Test
    @SuppressWarnings("deprecation")
    void prefixNamespacesKeepTopicsOfOneNameApart() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = Names.unique("topic");
            String group = Names.unique("group");
            for (String namespace : new String[] {Names.unique("one"), Names.unique("two")}) {
                DefaultMQProducer producer = clients.newProducer();
                producer.setNamespace(namespace);
                producer.setDefaultTopicQueueNums(1);
                clients.start(producer);
                send(producer, message(topic, "for " + namespace));
                clients.awaitRoute(namespace + "%" + topic, 1);
                Inbox inbox = new Inbox();
                DefaultMQPushConsumer push = clients.newPush(group);
                push.setNamespace(namespace);
                push.subscribe(topic, "*");
                push.registerMessageListener(inbox.concurrently());
                clients.start(push);
                inbox.awaitExactly(List.of("for " + namespace));
                assertEquals(topic, inbox.all().get(0).getTopic());
            }
            assertEquals(0, clients.queuesInRoute(topic), "the topic without a namespace");
        }
    }

    /** The second kind travels beside each request; a broker without a proxy takes no notice. */
    @Test
    void namespaceFieldOfRequestsIsAccepted() throws Exception {
        try (Clients clients = Clients.shared()) {
            String topic = clients.topic(1);
            DefaultMQProducer producer = clients.newProducer();
            producer.setNamespaceV2("space");
            clients.start(producer);
            send(producer, message(topic, "hello"));
            Inbox inbox = new Inbox();
            DefaultMQPushConsumer push = clients.newPush(Names.unique("group"));
            push.setNamespaceV2("space");
            push.subscribe(topic, "*");
            push.registerMessageListener(inbox.concurrently());
            clients.start(push);
            inbox.awaitExactly(List.of("hello"));
        }
    }
}
