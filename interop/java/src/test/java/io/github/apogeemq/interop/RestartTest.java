package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.sendBodies;

import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.impl.factory.MQClientInstance;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.junit.jupiter.api.Test;

class RestartTest {
    /** The clients stay, as they do when a broker is upgraded. */
    @Test
    void messagesOffsetsAndClientsSurviveARestart() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(2);
            String group = Names.unique("group");
            DefaultMQProducer producer = clients.newProducer();
            producer.setRetryTimesWhenSendFailed(20);
            producer.setSendMsgTimeout(20_000);
            clients.start(producer);
            Inbox inbox = new Inbox();
            DefaultMQPushConsumer stopped = clients.push(group, topic, "*", inbox);
            List<String> all = new ArrayList<>(sendBodies(producer, topic, "first", 20));
            inbox.awaitExactly(all);
            clients.awaitCommitted(stopped, topic, 20);
            stopped.shutdown();
            Inbox staying = new Inbox();
            clients.push(Names.unique("group"), topic, "*", staying);
            staying.awaitExactly(all);
            cluster.process.stop();
            cluster.process.start();
            List<String> second = sendBodies(producer, topic, "second", 20);
            all.addAll(second);
            Inbox resumed = new Inbox();
            clients.push(group, topic, "*", resumed);
            resumed.awaitExactly(second);
            Inbox fresh = new Inbox();
            clients.push(Names.unique("group"), topic, "*", fresh);
            fresh.awaitExactly(all);
            Await.until("the consumer that stayed to have everything", () -> staying.bodies().containsAll(all));
        }
    }

    /** Of heartbeats V2 only the first has the subscriptions, which the broker forgets when it dies. */
    @Test
    void aConsumerWithHeartbeatV2SurvivesAKill() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1"); Clients clients = new Clients(cluster)) {
            String topic = clients.topic(2);
            DefaultMQProducer producer = clients.newProducer();
            producer.setRetryTimesWhenSendFailed(20);
            producer.setSendMsgTimeout(20_000);
            clients.start(producer);
            Inbox inbox = new Inbox();
            DefaultMQPushConsumer push = clients.newPush(Names.unique("group"));
            push.setUseHeartbeatV2(true);
            push.subscribe(topic, "*");
            push.registerMessageListener(inbox.concurrently());
            clients.start(push);
            List<String> all = new ArrayList<>(sendBodies(producer, topic, "first", 20));
            inbox.awaitExactly(all);
            MQClientInstance client = push.getDefaultMQPushConsumerImpl().getmQClientFactory();
            for (int beats = 0; beats < 2; beats++) { // the second has no subscriptions
                Await.until("a heartbeat", () -> client.sendHeartbeatToAllBrokerWithLockV2(false));
            }
            cluster.process.kill();
            cluster.process.start();
            all.addAll(sendBodies(producer, topic, "second", 20));
            Await.until("the consumer that stayed to have everything", () -> inbox.bodies().containsAll(all));
        }
    }
}
