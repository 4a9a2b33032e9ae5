package io.github.apogeemq.interop;

import static io.github.apogeemq.interop.Clients.message;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.consumer.AckStatus;
import org.apache.rocketmq.client.exception.MQBrokerException;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.TopicConfig;
import org.apache.rocketmq.common.entity.ClientGroup;
import org.apache.rocketmq.common.lite.LiteSubscriptionAction;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.remoting.protocol.body.GetBrokerLiteInfoResponseBody;
import org.apache.rocketmq.remoting.protocol.body.GetLiteClientInfoResponseBody;
import org.apache.rocketmq.remoting.protocol.body.GetLiteGroupInfoResponseBody;
import org.apache.rocketmq.remoting.protocol.body.GetLiteTopicInfoResponseBody;
import org.apache.rocketmq.remoting.protocol.body.GetParentTopicInfoResponseBody;
import org.apache.rocketmq.remoting.protocol.header.SearchOffsetRequestHeader;
import org.junit.jupiter.api.Test;

/** Lite topics, by the requests of the official client that RocketMQ's proxy uses. */
class LiteTopicTest {
    private static final String[] FLAGS = {"--enable-lmq=true", "--enable-multi-dispatch=true"};
    private static final int TIMEOUT_MILLIS = 10_000;

    private static String parent(Clients clients) throws Exception {
        String topic = Names.unique("parent");
        TopicConfig config = new TopicConfig(topic, 2, 2, 6);
        config.getAttributes().put("+message.type", "LITE");
        config.getAttributes().put("+lite.topic.expiration", "30");
        clients.cluster.admin().createAndUpdateTopicConfig(clients.cluster.broker, config);
        clients.awaitRoute(topic, 2);
        return topic;
    }

    private static String group(Clients clients, String parent, String... attributes) throws Exception {
        return clients.group(config -> {
            config.getAttributes().put("+lite.bind.topic", parent);
            for (String attribute : attributes) {
                config.getAttributes().put("+" + attribute.split("=")[0], attribute.split("=")[1]);
            }
        });
    }

    private static void send(DefaultMQProducer producer, String parent, String lite, String body) throws Exception {
        Message m = message(parent, body);
        MessageAccessor.setLiteTopic(m, lite);
        Clients.send(producer, m);
    }

    private static List<MessageExt> popped(LiteClient client, String id, long invisible, String... want) throws Exception {
        List<MessageExt> all = new ArrayList<>();
        Await.until(want.length + " messages", () -> {
            all.addAll(client.pop(id, invisible, 1_000));
            return all.size() >= want.length;
        });
        assertEquals(Set.of(want), Set.copyOf(LiteClient.texts(all)));
        return all;
    }

    @Test
    void liteTopicsAreConsumedAcrossAKill() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", FLAGS); Clients clients = new Clients(cluster)) {
            String parent = parent(clients);
            DefaultMQProducer producer = clients.producer();
            try (LiteClient client = new LiteClient(cluster, parent, group(clients, parent))) {
                client.subscribe("one", LiteSubscriptionAction.PARTIAL_ADD, "a", "b");
                client.subscribe("two", LiteSubscriptionAction.COMPLETE_ADD, "c");
                CompletableFuture<List<MessageExt>> waiting = client.popAsync("one", 60_000, 10_000, "attempt-1");
                send(producer, parent, "a", "m-0");
                assertEquals(List.of("a:m-0@0 x0"), LiteClient.texts(waiting.get(TIMEOUT_MILLIS, TimeUnit.MILLISECONDS)));
                List<MessageExt> again = client.popAsync("one", 60_000, 0, "attempt-1").get(TIMEOUT_MILLIS, TimeUnit.MILLISECONDS);
                assertEquals(List.of("a:m-0@0 x0"), LiteClient.texts(again));
                send(producer, parent, "a", "m-1");
                send(producer, parent, "b", "m-2");
                send(producer, parent, "c", "m-3");
                List<MessageExt> b = popped(client, "one", 60_000, "b:m-2@0 x0"); // a waits for m-0
                popped(client, "two", 60_000, "c:m-3@0 x0");
                assertTrue(client.ack(b.get(0)));

                cluster.process.kill();
                cluster.process.start();
                Await.until("the subscriptions", () -> {
                    try {
                        client.subscribe("one", LiteSubscriptionAction.COMPLETE_ADD, "a", "b");
                        return true;
                    } catch (Exception e) {
                        return false; // the broker is not there yet
                    }
                });
                assertEquals(List.of(), client.pop("one", 60_000, 0)); // what was handed out is, and what was acknowledged stays so
                AckStatus renewed = client.renew(again.get(0), 100, true).getStatus();
                assertEquals(AckStatus.OK, renewed);
                again = popped(client, "one", 60_000, "a:m-0@0 x1", "a:m-1@1 x0");
                assertEquals(AckStatus.OK, client.renew(again.get(0), 50, true).getStatus());
                again = popped(client, "one", 60_000, "a:m-0@0 x1", "a:m-1@1 x1"); // the delivery before did not count where it was one more
                for (MessageExt m : again) {
                    assertTrue(client.ack(m));
                }
                assertEquals(List.of(), client.pop("one", 60_000, 0));
                SearchOffsetRequestHeader search = new SearchOffsetRequestHeader();
                search.setTopic(parent);
                search.setLiteTopic("a");
                search.setQueueId(0);
                search.setTimestamp(Long.MAX_VALUE / 2);
                assertEquals(2, client.api.searchOffset(cluster.broker, search, TIMEOUT_MILLIS).get());
                assertEquals(4, clients.read(parent, 4).all().size());
            }
        }
    }

    @Test
    void exclusiveSubscribersAreTold() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", FLAGS); Clients clients = new Clients(cluster)) {
            String parent = parent(clients);
            String group = group(clients, parent, "lite.sub.model=Exclusive", "lite.sub.client.quota=2");
            try (LiteClient old = new LiteClient(cluster, parent, group); LiteClient newer = new LiteClient(cluster, parent, group)) {
                old.subscribe("old", LiteSubscriptionAction.PARTIAL_ADD, "a", "b");
                newer.subscribe("newer", LiteSubscriptionAction.PARTIAL_ADD, "a");
                assertEquals("a of old", old.ended.poll(TIMEOUT_MILLIS, TimeUnit.MILLISECONDS));
                send(clients.producer(), parent, "a", "m-0");
                popped(newer, "newer", 60_000, "a:m-0@0 x0");
                assertEquals(List.of(), old.pop("old", 60_000, 0));
                MQBrokerException refused = assertThrows(MQBrokerException.class, () -> newer.subscribe("newer", LiteSubscriptionAction.PARTIAL_ADD, "x", "y"));
                assertEquals(ResponseCode.LITE_SUBSCRIPTION_QUOTA_EXCEEDED, refused.getResponseCode());
                assertTrue(old.ended.isEmpty() && newer.ended.isEmpty());
            }
        }
    }

    @Test
    void administratorsSeeLiteTopics() throws Exception {
        try (Cluster cluster = Cluster.own("127.0.0.1", FLAGS); Clients clients = new Clients(cluster)) {
            String parent = parent(clients);
            String group = group(clients, parent);
            try (LiteClient client = new LiteClient(cluster, parent, group)) {
                client.subscribe("one", LiteSubscriptionAction.COMPLETE_ADD, "a", "b");
                DefaultMQProducer producer = clients.producer();
                for (int i = 0; i < 3; i++) {
                    send(producer, parent, "a", "m-" + i);
                }
                client.ack(popped(client, "one", 60_000, "a:m-0@0 x0", "a:m-1@1 x0", "a:m-2@2 x0").get(0));

                GetBrokerLiteInfoResponseBody broker = client.api.getBrokerLiteInfo(cluster.broker, TIMEOUT_MILLIS);
                assertEquals(1, broker.getCurrentLmqNum());
                assertEquals(2, broker.getLiteSubscriptionCount());
                assertEquals(Map.of(parent, 30), broker.getTopicMeta());
                assertEquals(Map.of(parent, Set.of(group)), broker.getGroupMeta());
                GetParentTopicInfoResponseBody topic = client.api.getParentTopicInfo(cluster.broker, parent, TIMEOUT_MILLIS);
                assertEquals(30, topic.getTtl());
                assertEquals(1, topic.getLiteTopicCount());
                assertEquals(Set.of(group), topic.getGroups());
                GetLiteTopicInfoResponseBody lite = client.api.getLiteTopicInfo(cluster.broker, parent, "a", TIMEOUT_MILLIS);
                assertEquals(Set.of(new ClientGroup("one", group)), lite.getSubscriber());
                assertEquals(3, lite.getTopicOffset().getMaxOffset());
                assertTrue(lite.isShardingToBroker());
                GetLiteClientInfoResponseBody one = client.api.getLiteClientInfo(cluster.broker, parent, group, "one", TIMEOUT_MILLIS);
                assertEquals(2, one.getLiteTopicCount());
                assertEquals(Set.of("%LMQ%$" + parent + "$a", "%LMQ%$" + parent + "$b"), one.getLiteTopicSet());
                assertFalse(one.getLastAccessTime() <= 0);
                GetLiteGroupInfoResponseBody lag = client.api.getLiteGroupInfo(cluster.broker, group, null, 10, TIMEOUT_MILLIS);
                assertEquals(2, lag.getTotalLagCount());
                assertEquals("a", lag.getLagCountTopK().get(0).getLiteTopic());
                assertEquals(2, lag.getLagCountTopK().get(0).getLagCount());
                lag = client.api.getLiteGroupInfo(cluster.broker, group, "a", 10, TIMEOUT_MILLIS);
                assertEquals(1, lag.getLiteTopicOffsetWrapper().getConsumerOffset());
                client.api.triggerLiteDispatch(cluster.broker, group, "one", TIMEOUT_MILLIS);
            }
        }
    }
}
